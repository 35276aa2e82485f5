//go:build !race

package sim_test

const fewSeeds = false
