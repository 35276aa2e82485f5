package main

import "testing"

func TestKernel(t *testing.T) {
	for _, tt := range []struct{ name, log, want string }{
		{"gVisor signs its log", "<6>[    0.000000] Starting gVisor...\n", "gvisor"},
		{"a log that cannot be read", "", "host"},
		{"a host's log", "<5>[    0.000000] Linux version 6.1.0\n", "host"},
	} {
		if got := kernel([]byte(tt.log)); got != tt.want {
			t.Errorf("%s: kernel = %q, want %q", tt.name, got, tt.want)
		}
	}
}
