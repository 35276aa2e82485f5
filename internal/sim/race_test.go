//go:build race

package sim

// FewSeeds is set under the race detector, which makes a single thread eight times slower and has nothing to find in it.
const FewSeeds = true
