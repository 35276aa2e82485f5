package events

import "time"

// Heartbeat is what an executor says of itself, in its key of BucketHosts, every few seconds. A key that expires is a host
// that is lost.
type Heartbeat struct {
	HostID         HostID    `json:"hostId"`
	Started        time.Time `json:"started"`               // When the executor process started.
	Version        string    `json:"version"`               // Of Hersh.
	Docker         string    `json:"docker,omitempty"`      // Version of the Docker Engine; "" when it does not answer, or for a fake host.
	DefaultRuntime string    `json:"defaultRuntime"`        // "runsc", "runc" or "fake".
	Runtimes       []string  `json:"runtimes,omitempty"`    // Runtimes that the engine has registered, sorted.
	CPUs           int       `json:"cpus,omitempty"`        // Of the engine's machine.
	MemoryBytes    int64     `json:"memoryBytes,omitempty"` // Of the engine's machine.
	BuildSlots     int       `json:"buildSlots"`            // Builds of unplaced programs that it takes at once.
	Building       int       `json:"building"`              // Builds of unplaced programs that it has in hand.
	Running        int       `json:"running"`               // Containers of Hersh that run there.
	Capacity       Capacity  `json:"capacity"`              // What programs it takes.
	Promised       Load      `json:"promised"`              // What is promised of that.
	Drained        bool      `json:"drained,omitempty"`     // It takes no new program, and has none in hand.
	Problem        string    `json:"problem,omitempty"`     // What keeps it from working, in words; "" is none.
}
