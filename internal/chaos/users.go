package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rlaaudgjs5638/hersh/events"
	"github.com/rlaaudgjs5638/hersh/internal/pause"
)

const (
	userCount   = 6
	ackWait     = 5 * time.Second // How long a user waits for an acknowledgement.
	userRetries = 60              // Of a publication that has a key; without one it is published once.
	retryPause  = time.Second
	// tokenHeader tells publications from each other. Nothing acts on it.
	tokenHeader = "Chaos-Token"
)

// publication is what a user published.
type publication struct {
	program events.ProgramID
	typ     events.Type
	token   string
	keyed   bool   // It had a Nats-Msg-Id, so that it could be published again until it was acknowledged.
	seq     uint64 // Of the acknowledgement; 0 is none.
	refused bool   // The server said no.
}

// users publish at random, and remember.
type users struct {
	nc       *nats.Conn
	programs []events.ProgramID
	pace     time.Duration // Mean time between two publications of one user.

	mu   sync.Mutex
	sent []publication
}

// run is all users, until ctx ends. Those who wait for an acknowledgement of something with a key then go on until work ends.
func (u *users) run(ctx, work context.Context, seed uint64) {
	var group sync.WaitGroup
	for i := range userCount {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			for n := 0; pause.For(ctx, time.Duration(r.ExpFloat64()*float64(u.pace))); n++ {
				p, data := u.next(r)
				p.token = fmt.Sprintf("%d-%d", i, n)
				u.publish(work, p, data)
			}
		})
	}
	group.Wait()
}

// next makes up a publication.
func (u *users) next(r *rand.Rand) (publication, string) {
	p := publication{program: u.programs[r.IntN(len(u.programs))], keyed: r.IntN(2) == 0}
	data := "{}"
	switch dice := r.IntN(100); {
	case dice < 45:
		p.typ = events.TypeUserStartRequested
	case dice < 68:
		p.typ = events.TypeUserStopRequested
	case dice < 88:
		p.typ = events.TypeUserRestartRequested
	case dice < 91:
		p.typ, data = events.TypeUserStopRequested, "\xff{"
	case dice < 94:
		p.typ = "Nonsense"
	case dice < 97: // A result of an attempt that there never was.
		p.typ, data = events.TypeBuildFinished, `{"attempt":1000000,"success":true,"imageId":"x"}`
	default: // Too big: the server refuses it.
		p.typ, data = events.TypeUserStartRequested, strings.Repeat(" ", 70_000)
	}
	return p, data
}

func (u *users) publish(ctx context.Context, p publication, data string) {
	tries := 1
	if p.keyed {
		tries = userRetries
	}
	for range tries {
		msg := nats.NewMsg(events.EventSubject(p.program, p.typ))
		msg.Data = []byte(data)
		msg.Header.Set(tokenHeader, p.token)
		if p.keyed {
			msg.Header.Set("Nats-Msg-Id", p.token)
		}
		if p.seq, p.refused = u.request(ctx, msg); p.seq != 0 || p.refused || !pause.For(ctx, retryPause) {
			break
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, p)
}

// request returns the sequence that the server acknowledged, 0 for none, and whether it refused the message for good.
func (u *users) request(ctx context.Context, msg *nats.Msg) (seq uint64, refused bool) {
	ctx, cancel := context.WithTimeout(ctx, ackWait)
	defer cancel()
	reply, err := u.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, false
	}
	var ack struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code int `json:"err_code"`
		} `json:"error"`
	}
	if json.Unmarshal(reply.Data, &ack) != nil {
		return 0, false
	}
	const tooBig = 10054
	return ack.Seq, ack.Error != nil && ack.Error.Code == tooBig
}

func (u *users) all() []publication {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]publication(nil), u.sent...)
}
