//go:build race

package sim_test

// fewSeeds is for the race detector, which makes a single thread eight times slower and has nothing to find in it.
const fewSeeds = true
