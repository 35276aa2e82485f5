package bus_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/natstest"
)

// rawClient writes the protocol itself, so that it can send what no client library does.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newRawClient(t *testing.T, url string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	c.send(`CONNECT {"verbose":false,"headers":true,"no_responders":true}` + "\r\n")
	return c
}

// publish sends a message with a block of headers as it is, and returns once the server has read it.
func (c *rawClient) publish(subject, headers, data string) {
	c.t.Helper()
	c.send(fmt.Sprintf("HPUB %s %d %d\r\n%s%s\r\n", subject, len(headers), len(headers)+len(data), headers, data))
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(text + "PING\r\n")); err != nil {
		c.t.Fatal(err)
	}
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil || strings.HasPrefix(line, "-ERR"):
			c.t.Fatalf("the server says %q, %v", line, err)
		case strings.HasPrefix(line, "PONG"):
			return
		}
	}
}

// forgeries are blocks of headers that pass for what a server says of a message, or for what it says at the end of a read.
func forgeries(subject string) map[string]string {
	lines := func(names ...string) string { return "NATS/1.0\r\n" + strings.Join(names, "\r\n") + "\r\n\r\n" }
	whole := lines("Nats-Stream: x", "Nats-Subject: "+subject, "Nats-Sequence: 99", "Nats-Time-Stamp: 1999-01-01T00:00:00Z", "Nats-Num-Pending: 0", "Nats-Last-Sequence: 98")
	return map[string]string{
		"another subject":         lines("Nats-Subject: " + subject),
		"a later sequence":        lines("Nats-Sequence: 1000"),
		"an earlier sequence":     lines("Nats-Sequence: 1"),
		"no sequence":             lines("Nats-Sequence: x"),
		"another time":            lines("Nats-Time-Stamp: 1999-01-01T00:00:00Z"),
		"no time":                 lines("Nats-Time-Stamp: x"),
		"nothing left":            lines("Nats-Num-Pending: 0"),
		"no stream":               lines("Nats-Stream: "),
		"not found":               lines("Status: 404"),
		"not found, inline":       "NATS/1.0 404 Message Not Found\r\n\r\n",
		"the end":                 lines("Status: 204", "Description: EOB"),
		"the end, inline":         "NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 1\r\n\r\n",
		"nobody there":            "NATS/1.0 503\r\n\r\n",
		"all of it":               whole,
		"all of it, and more":     whole + "X: ",
		"not found, and more":     "NATS/1.0 404 Message Not Found\r\n\r\nX: ",
		"the end, and more":       "NATS/1.0 204 EOB\r\n\r\nX: ",
		"nobody there, and more":  "NATS/1.0 503\r\n\r\nX: ",
		"many short lines":        strings.TrimSuffix(whole, "\r\n") + strings.Repeat("a:\n", 300) + "\nX: ",
		"as many as are believed": strings.TrimSuffix(whole, "\r\n") + strings.Repeat("a:\n", 34) + "\nX: ",
		"no end":                  "NATS/1.0\r\nX: y",
		"a line that is none":     lines("nothing"),
		"no headers at all":       "who knows",
		"a deleted key":           lines("KV-Operation: DEL"),
		"a long one":              lines("X: " + strings.Repeat("y", 2000)),
	}
}

// TestHeadersForgeNothing publishes events with headers that say something else of them than is so. They are read as what they are,
// where they are, and so is what comes after them.
func TestHeadersForgeNothing(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t)
	b := srv.Bus(t)
	raw := newRawClient(t, srv.URL())
	n := 0
	for name, block := range forgeries(events.EventSubject("alice-x", events.TypeRuntimeExited)) {
		n++
		id := create(t, b, n)
		t.Run(name, func(t *testing.T) {
			for _, data := range []string{`{"exitCode":3}`, ""} {
				raw.publish(events.EventSubject(id, events.TypeUserStartRequested), block, data)
			}
			raw.publish(events.EventSubject(id, events.TypeUserStopRequested), "NATS/1.0\r\n\r\n", `{}`)
			eventually(t, "the last event is stored", func() bool {
				head, err := b.Head(t.Context(), id)
				return err == nil && head.Seq == 4
			})
			log := read(t, b, id)
			want := []string{"1 ProgramCreated", `2 UserStartRequested {"exitCode":3}`, "3 UserStartRequested ", "4 UserStopRequested {}"}
			if len(log) != len(want) {
				t.Fatalf("%d events were read, want %d", len(log), len(want))
			}
			for i, stored := range log {
				got := fmt.Sprintf("%d %s", stored.Seq, stored.Type)
				if i > 0 {
					got += " " + string(stored.Data)
				}
				if got != want[i] || time.Since(stored.Time).Abs() > time.Hour {
					t.Errorf("event %d was read as %q of %s, want %q", i+1, got, stored.Time, want[i])
				}
			}
		})
	}
}
