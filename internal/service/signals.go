package service

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal returns a context that ends with the first SIGTERM or SIGINT. A second one ends the process at once, since the
// first has put the usual handling of signals back. stop does so too, and must be called.
func UntilSignal(parent context.Context, log *slog.Logger) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(parent, syscall.SIGTERM, os.Interrupt)
	unhook := context.AfterFunc(ctx, func() {
		if parent.Err() == nil {
			log.Info("stopping; a second signal ends the process at once")
		}
		cancel()
	})
	return ctx, func() {
		unhook()
		cancel()
	}
}
