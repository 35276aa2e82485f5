//go:build !race

package sim

const FewSeeds = false
