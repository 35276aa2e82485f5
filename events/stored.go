package events

import "time"

// Stored is one message of a program's log, as the stream keeps it. It need not hold an event that decodes.
type Stored struct {
	Seq  uint64    // Stream sequence; grows, but need not be contiguous.
	Time time.Time // When the server stored it.
	Type Type      // Last token of the subject; any string a client may have published.
	Data []byte
}
