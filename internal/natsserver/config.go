package natsserver

import (
	"fmt"
	"log/slog"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says which configuration file to start with, as the nats-server command takes it.
type Config struct {
	Path string
	Host string       // Where to listen, instead of where the file says; "" is as it says.
	Port int          // The same; -1 is any free one, 0 is as the file says.
	Log  *slog.Logger // Gets the server's warnings and errors; nil drops them.
}

// StartConfig is Start with a configuration file.
func StartConfig(c Config) (*Server, error) {
	opts, err := c.options()
	if err != nil {
		return nil, fmt.Errorf("start NATS server with %s: %w", c.Path, err)
	}
	s, err := run(opts, c.Log)
	if err == nil {
		s.config = c
	}
	return s, err
}

func (c Config) options() (*server.Options, error) {
	opts, err := server.ProcessConfigFile(c.Path)
	if err != nil {
		return nil, err
	}
	opts.NoSigs, opts.NoLog = true, c.Log == nil
	if c.Host != "" {
		opts.Host = c.Host
	}
	if c.Port != 0 {
		opts.Port = c.Port
	}
	return opts, nil
}

// Reload reads the configuration file of StartConfig again, as the signal SIGHUP makes the nats-server command do.
func (s *Server) Reload() error {
	opts, err := s.config.options()
	if err == nil {
		err = s.srv.ReloadOptions(opts)
	}
	if err != nil {
		return fmt.Errorf("reload the configuration of the NATS server: %w", err)
	}
	return nil
}
