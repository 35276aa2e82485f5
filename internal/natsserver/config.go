package natsserver

import (
	"fmt"
	"log/slog"

	"github.com/nats-io/nats-server/v2/server"
)

// StartConfig is Start with a configuration file, as the nats-server command takes it.
func StartConfig(path string, log *slog.Logger) (*Server, error) {
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		return nil, fmt.Errorf("start NATS server with %s: %w", path, err)
	}
	opts.NoSigs, opts.NoLog = true, log == nil
	return run(opts, log)
}

// Reload reads the configuration file of StartConfig again, as the signal SIGHUP makes the nats-server command do.
func (s *Server) Reload() error {
	if err := s.srv.Reload(); err != nil {
		return fmt.Errorf("reload the configuration of the NATS server: %w", err)
	}
	return nil
}
