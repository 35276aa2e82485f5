// Command container is the process of one container of package box.
package main

import (
	"os"

	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
)

func main() {
	if len(os.Args) != 2 {
		os.Exit(2)
	}
	os.Exit(box.Run(os.Args[1]))
}
