// Command hostile is a program that tries to get out of its container, and to hurt whoever is beside it. It runs in the
// containers of the tests of package attack only.
//
// What it is to do is in /state/orders.json. It prints one JSON line for each attempt, and one of the kind "done" at the
// end of each mode that ends. It needs no library and no file of its image.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
)

// orders are what the test wants to be tried, and what it knows of the outside.
type orders struct {
	Mode     string            // A key of modes.
	Targets  map[string]string // Addresses that must not be reached, by a name of each.
	HostPids []int             // Processes of the host and of a neighbour.
	HostFile string            // A file of the host that anybody may read there.
	Amount   int64             // How much a mode may try to take at most.
}

// report is one line of output.
type report struct {
	Kind    string `json:"kind"`
	Attempt string `json:"attempt"`
	Worked  bool   `json:"worked"`
	Detail  string `json:"detail,omitempty"`
	Count   int64  `json:"count,omitempty"`
}

// attempt is one thing to try. The text says how it went.
type attempt struct {
	kind, name string
	try        func() (bool, string)
}

// patience bounds one attempt. Something that does not answer has not worked.
const patience = 3 * time.Second

func main() {
	if len(os.Args) > 1 {
		helper(os.Args[1:])
		return
	}
	var o orders
	data, err := os.ReadFile("/state/orders.json")
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile: no orders:", err)
		os.Exit(98)
	}
	run(o)
}

// helper is what the program starts of itself, and what the Dockerfile runs.
func helper(args []string) {
	switch args[0] {
	case "whoami":
		fmt.Print(os.Geteuid())
	case "inside": // All attempts once more, in a user namespace where this process is root with every capability.
		o := orders{}
		_ = json.Unmarshal([]byte(args[1]), &o)
		escape(o, "in a user namespace: ")
	case "sit":
		sit()
	case "stay":
		stay()
	case "memory":
		takeMemory()
	case "processes":
		takeProcesses(4000)
		sit()
	case "link": // A link in an image, for later steps of a build to follow.
		if err := os.Symlink(args[1], args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(97)
		}
	case "reach":
		if err := dialFor("tcp", args[1], time.Minute); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(97)
		}
	case "makesuid":
		if err := makeSetuid(args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(97)
		}
	default:
		os.Exit(96)
	}
}

// sit waits for ever. An empty select would end the program: Go takes it for a deadlock.
func sit() {
	for {
		time.Sleep(time.Hour)
	}
}

func run(o orders) {
	switch o.Mode {
	case "escape":
		escape(o, "")
		escapeInside(o)
		done("escape")
		sit()
	case "listen":
		listen()
	case "live":
		stay()
	case "memory":
		takeMemory()
	case "shm":
		fill("/dev/shm/x", o.Amount)
		done("shm")
	case "processes":
		takeProcesses(o.Amount)
		sit()
	case "threads":
		takeThreads(o.Amount)
		sit()
	case "files":
		takeFiles(o.Amount)
		done("files")
	case "log":
		fillLog(o.Amount)
		done("log")
	case "disk":
		fill("/state/big", o.Amount)
		done("disk")
	case "hoard":
		fill("/state/big", o.Amount)
		done("hoard")
		sit()
		sit()
	case "setuid":
		leaveSetuid()
		done("setuid")
		sit()
	case "deaf":
		ignoreSignals()
	case "daemon":
		daemonise()
	default:
		os.Exit(95)
	}
}

// escape tries everything that could give more than a program is to have.
func escape(o orders, prefix string) {
	for _, a := range allAttempts(o) {
		worked, detail := within(a.try)
		say(report{Kind: a.kind, Attempt: prefix + a.name, Worked: worked, Detail: detail})
	}
}

func allAttempts(o orders) []attempt {
	var all []attempt
	for _, list := range [][]attempt{
		fileAttempts(o), mountAttempts(), deviceAttempts(), socketAttempts(), reachAttempts(o), processAttempts(o),
		identityAttempts(), namespaceAttempts(), kernelAttempts(), procAttempts(), readAttempts(),
	} {
		all = append(all, list...)
	}
	return all
}

// within runs an attempt on a thread of its own, which ends with it, whatever it did to it.
func within(try func() (bool, string)) (bool, string) {
	type outcome struct {
		worked bool
		detail string
	}
	over := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with the goroutine.
		worked, detail := try()
		over <- outcome{worked, detail}
	}()
	select {
	case got := <-over:
		return got.worked, got.detail
	case <-time.After(patience):
		return false, "no answer"
	}
}

func say(r report) {
	line, _ := json.Marshal(r)
	fmt.Println(string(line))
}

func done(mode string) { say(report{Kind: "done", Attempt: mode}) }

// result is the outcome of what works when there is no error.
func result(err error) (bool, string) {
	if err != nil {
		return false, err.Error()
	}
	return true, ""
}

// does makes an attempt of a function.
func does(kind, name string, do func() error) attempt {
	return attempt{kind, name, func() (bool, string) { return result(do()) }}
}
