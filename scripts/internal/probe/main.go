// Command probe runs inside a container and says which kernel it met: "gvisor" when the sandbox answers the kernel's
// calls itself, "host" otherwise. A daemon may silently run another runtime than the one it was asked for, so an exit
// code of 0 alone proves nothing.
package main

import (
	"bytes"
	"fmt"
)

func main() {
	fmt.Println(kernel(kernelLog()))
}

// kernel names the kernel that wrote this log. gVisor signs its own; the host's is out of a container's reach, so that
// an empty log means the host.
func kernel(log []byte) string {
	if bytes.Contains(log, []byte("gVisor")) {
		return "gvisor"
	}
	return "host"
}
