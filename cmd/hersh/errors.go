package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/bus"
	"github.com/rlaaudgjs5638/hersh/internal/source"
)

// exitCode is an error with the exit code of the process. Without err everything has been said.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }

// wrongUsage is an error of who typed the command.
func wrongUsage(format string, args ...any) error {
	return &exitCode{exitUsage, sentence(fmt.Sprintf(format, args...))}
}

// sentence is an error whose text is meant for people as it is.
type sentence string

func (s sentence) Error() string { return string(s) }

// connectError says that there is no connection to NATS.
type connectError struct {
	server string
	err    error
}

func (e *connectError) Error() string { return fmt.Sprintf("connect to %s: %s", e.server, e.err) }

func (e *connectError) Unwrap() error { return e.err }

// explain turns an error into a sentence that its reader can act on.
func (a *app) explain(err error) string {
	var said sentence
	var connect *connectError
	var refused *client.Error
	var denied *client.DeniedError
	switch {
	case errors.As(err, &said):
		return string(said)
	case errors.As(err, &connect):
		return explainConnect(connect)
	case errors.As(err, &denied):
		return explainDenied(denied)
	case errors.Is(err, client.ErrUnavailable):
		return fmt.Sprintf("the NATS server at %s answers, but no supervisor of Hersh does. Start one with `hersh dev` or the supervisor service.", bus.Redact(a.Server))
	case errors.Is(err, client.ErrNoProgram):
		return "there is no such program; `hersh ps` lists those that there are."
	case errors.As(err, &refused):
		return refused.Message + "."
	case lostConnection(err):
		return fmt.Sprintf("the NATS server at %s does not answer any more; try again when it is back.", bus.Redact(a.Server))
	case errors.Is(err, context.DeadlineExceeded):
		return "it was not done in time; see --timeout. What was asked for is in the log, and goes on."
	}
	if text := explainSource(err); text != "" {
		return text
	}
	if text := explainPath(err); text != "" {
		return text
	}
	return fmt.Sprintf("%s. (--verbose shows more.)", strings.TrimSuffix(rootCause(err).Error(), "."))
}

// explainDenied says whose key would be allowed to.
func explainDenied(e *client.DeniedError) string {
	tokens := strings.Split(e.Subject, ".")
	if len(tokens) > 3 && tokens[0] == "hersh" {
		if user, err := events.ParseUserID(tokens[2]); err == nil {
			return fmt.Sprintf("your key may not act for user %s: a tenant acts in their own name only. Name yourself, or use the key of %s with --nkey.", user, user)
		}
	}
	if strings.HasPrefix(e.Subject, "_INBOX") {
		return "your key may not hear answers at " + e.Subject + ". With --nkey the right inbox is found by itself; a NATS context must name it as inbox_prefix."
	}
	return "your key may not do this; it is for operators. Use the provisioner's key with --nkey."
}

func explainConnect(e *connectError) string {
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(e.err, &unverified):
		return fmt.Sprintf("the certificate of the NATS server at %s cannot be trusted: %s. Name the certificate that it is checked by with --tls-ca.", e.server, unverified.Err)
	case errors.Is(e.err, nats.ErrSecureConnWanted):
		return fmt.Sprintf("the NATS server at %s does not speak TLS; give its address as nats://, without --tls-ca, if that is as it should be.", e.server)
	case errors.Is(e.err, nats.ErrAuthorization), errors.Is(e.err, nats.ErrAuthExpired):
		return fmt.Sprintf("the NATS server at %s does not let you in; check the key (--nkey, --creds or --context), or the user and password in --server.", e.server)
	case errors.Is(e.err, nats.ErrNoServers), errors.Is(e.err, nats.ErrTimeout):
		return fmt.Sprintf("no NATS server answers at %s. Start Hersh with `hersh dev`, or say where it runs with --server or NATS_URL.", e.server)
	}
	return fmt.Sprintf("cannot connect to NATS at %s: %s.", e.server, rootCause(e.err))
}

func explainSource(err error) string {
	switch {
	case errors.Is(err, source.ErrNoDockerfile):
		return "the folder has no Dockerfile. Add one that says how the program is built."
	case errors.Is(err, source.ErrChanged):
		return "a file changed while the folder was read; try again when nothing writes to it."
	case errors.Is(err, source.ErrTooLarge), errors.Is(err, source.ErrUnsafePath),
		errors.Is(err, source.ErrUnsupportedEntry), errors.Is(err, source.ErrInvalidIgnore):
		// These name the file and say what is wrong with it; what is before them says what was being done.
		text := err.Error()
		for _, known := range []error{source.ErrTooLarge, source.ErrUnsafePath, source.ErrUnsupportedEntry, source.ErrInvalidIgnore} {
			if i := strings.Index(text, known.Error()); i >= 0 {
				return text[i:] + "."
			}
		}
	}
	return ""
}

// explainPath names the file or folder that something is wrong with.
func explainPath(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return ""
	}
	switch {
	case errors.Is(at.Err, fs.ErrNotExist):
		return at.Path + " does not exist."
	case errors.Is(at.Err, syscall.ENOTDIR):
		return at.Path + " is a file, where a folder is needed."
	}
	return fmt.Sprintf("%s: %s.", at.Path, at.Err)
}

// passing reports whether the same request may be answered when the bus or a supervisor is back.
func passing(err error) bool {
	return errors.Is(err, client.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || lostConnection(err)
}

func lostConnection(err error) bool {
	for _, lost := range []error{
		nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		nats.ErrTimeout, nats.ErrNoResponders,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// rootCause is the first error of a chain: what happened, without who was told on the way. Of several it takes the first.
func rootCause(err error) error {
	for {
		var next error
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			next = e.Unwrap()
		case interface{ Unwrap() []error }:
			if all := e.Unwrap(); len(all) > 0 {
				next = all[0]
			}
		}
		if next == nil {
			return err
		}
		err = next
	}
}
