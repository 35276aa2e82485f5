package executor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	fenceEvery = time.Second // How often it is looked whether the bus still takes heartbeats.
	fenceLimit = 20 * time.Second
)

// fenceLoop ends the containers of this host while the bus has taken no heartbeat for too long. The host may be declared lost then,
// and its programs be started elsewhere; where they must never run twice, they have to end here before. What starts meanwhile,
// since its effect was in hand, ends as well. A host that was suspended for so long may find that its next heartbeat is taken before
// this loop looks: so it looks at the time between two heartbeats too, unless all was ended since the first of them. It does that once:
// what cannot be ended may be ended by a comparison, while programs that came since are not to pay for it.
func (e *Executor) fenceLoop(ctx context.Context) {
	if e.opts.FenceAfter <= 0 {
		return
	}
	ticker := time.NewTicker(fenceEvery)
	defer ticker.Stop()
	settled := time.Duration(e.lastBeat.Load()) // Nothing before that is to be fenced any more.
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		beat := time.Duration(e.lastBeat.Load())
		away := max(e.opts.Uptime()-beat, beat-settled)
		if away <= e.opts.FenceAfter {
			settled = max(settled, beat)
			continue
		}
		switch err := e.fence(ctx, away); {
		case err == nil:
			settled = e.opts.Uptime()
		case e.opts.Uptime()-time.Duration(e.lastBeat.Load()) <= e.opts.FenceAfter:
			settled = beat
			e.log.Error("could not end all programs of a host that was cut off; it is back, and what is nobody's goes with the next comparison", "error", err)
		case ctx.Err() == nil:
			e.log.Error("cannot end all programs of a host that is cut off; trying on", "error", err)
		}
	}
}

// fence ends every container that runs. It goes on past what fails and returns the errors together. The exits are published by the
// comparison that follows when the bus is back.
func (e *Executor) fence(ctx context.Context, away time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	containers, err := e.host.Containers(ctx)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	var failures []error
	for _, c := range containers {
		if !c.Running {
			continue
		}
		reason := fmt.Sprintf("its host was cut off from the bus for %s and ended it (--fence-after %s)", away.Round(time.Second), e.opts.FenceAfter)
		e.log.Warn("ending a program: the host is cut off", "program", c.ProgramID, "container", c.ID, "for", away.Round(time.Second))
		if err := e.host.End(ctx, c, reason); err != nil {
			failures = append(failures, fmt.Errorf("fence container %s of %s: %w", c.ID, c.ProgramID, err))
			continue
		}
		e.metrics.fenced.Inc()
	}
	return errors.Join(failures...)
}
