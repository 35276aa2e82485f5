// Command container is the process of one container of package box. Without a folder it is a program for real Docker, which waits for
// SIGTERM.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/rlaaudgjs5638/hersh/internal/chaos/box"
)

func main() {
	if len(os.Args) < 2 {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		return
	}
	os.Exit(box.Run(os.Args[1]))
}
