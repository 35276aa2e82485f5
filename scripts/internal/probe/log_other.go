//go:build !linux

package main

// kernelLog is empty here: the probe only ever runs in Linux containers, and this file keeps `go build ./...` whole
// on other systems.
func kernelLog() []byte { return nil }
