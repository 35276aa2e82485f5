package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// ErrDenied says that the server does not let the user of this connection ask that: the name in the subject is somebody else's, or the
// request is one for operators. The error is a *DeniedError.
var ErrDenied = errors.New("not allowed")

// DeniedError is ErrDenied with what was not allowed.
type DeniedError struct {
	Subject string // That was published to, or to which the answer would have come.
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("the NATS server does not allow this user the subject %s", e.Subject)
}

// Is matches ErrDenied.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// denials tells requests that they were denied. A server answers a denied publication with an error of the connection, which says no
// more than the subject; without this the request would wait for its time to run out.
type denials struct {
	inbox string // What the subjects of answers begin with.

	mu      sync.Mutex
	waiting map[*call]struct{}
}

// call is a request that waits for its answer.
type call struct {
	subject string
	deny    context.CancelCauseFunc
}

// watchDenials hears of every error of a connection before its handler does. What a request was told of is not passed on.
func watchDenials(nc *nats.Conn) *denials {
	d := &denials{inbox: "_INBOX.", waiting: map[*call]struct{}{}}
	if prefix := nc.Opts.InboxPrefix; prefix != "" {
		d.inbox = strings.TrimSuffix(prefix, ".") + "."
	}
	before := nc.ErrorHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if !d.tell(err) && before != nil {
			before(nc, sub, err)
		}
	})
	return d
}

// expect returns a context that ends, with a *DeniedError as its cause, when the server denies the subject. done must be called.
func (d *denials) expect(ctx context.Context, subject string) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &call{subject: subject, deny: cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting[c] = struct{}{}
	return ctx, func() {
		d.mu.Lock()
		delete(d.waiting, c)
		d.mu.Unlock()
		cancel(nil)
	}
}

// tell tells the requests that an error concerns, and reports whether there are any.
func (d *denials) tell(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	published, heard := quoted(err, `Publish to "`), quoted(err, `Subscription to "`)
	told := false
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.waiting {
		switch {
		case published != "" && c.subject == published:
			c.deny(&DeniedError{Subject: published})
			told = true
		case strings.HasPrefix(heard, d.inbox): // No answer to anything can come.
			c.deny(&DeniedError{Subject: heard})
			told = true
		}
	}
	return told
}

// quoted returns what stands between the words of the server and the next quotation mark, or "".
func quoted(err error, words string) string {
	_, rest, _ := strings.Cut(err.Error(), words)
	subject, _, _ := strings.Cut(rest, `"`)
	return subject
}
