// Command external takes part in Hersh with nothing but a NATS client: it starts a program, watches it become ready, stops it,
// and watches it stop. Arguments: the server's URL, the user, the program's ID.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 60 * time.Second

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, user, program string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	feed, err := nc.SubscribeSync("hersh.feed." + user + "." + program + ".*")
	if err != nil {
		return err
	}
	for _, step := range []struct{ ask, until string }{
		{"UserStartRequested", "RuntimeStarted"},
		{"UserStopRequested", "StopFinished"},
	} {
		answer, err := nc.Request("hersh.events."+user+"."+program+"."+step.ask, []byte("{}"), patience)
		if err != nil {
			return fmt.Errorf("publish %s: %w", step.ask, err)
		}
		var ack struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Seq == 0 {
			return fmt.Errorf("publish %s: no sequence in %s", step.ask, answer.Data)
		}
		if err := await(feed, step.until); err != nil {
			return err
		}
	}
	return nil
}

func await(feed *nats.Subscription, typ string) error {
	for {
		msg, err := feed.NextMsg(patience)
		if err != nil {
			return fmt.Errorf("wait for %s: %w", typ, err)
		}
		fmt.Println(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], string(msg.Data))
		if strings.HasSuffix(msg.Subject, "."+typ) {
			return nil
		}
	}
}
