// Package runtime speaks to the Docker Engine: it builds images, starts, stops and lists the containers of programs, and
// follows their output. It is the only importer of docker/docker, and works with Engine 20.10 (API 1.41) and later.
//
// What a container may be is decided by effects/compose; Start checks the spec before, and what Docker made of it after,
// since a daemon may silently do something else.
//
// # Following output
//
// Each followed container has a follower, a goroutine that the DockerManager owns. It moves between these states:
//
//	resume ──► catch up ──► follow ──► stream ended ──► container dead: read once more to the end ──► done
//	              ▲           │              │
//	              ├───────────┘              └── container alive (daemon restarted, connection lost): back off, follow
//	              └── what follows is not to be trusted: messages out of place, or many of them
//
// It writes in batches. For each: append to the log file, save the cursor with the batch as pending, ship the batch. A
// process that dies between any two of these resumes from the cursor: it cuts the log file back to what the cursor
// accounts for, ships the pending batch again under the same key, and asks Docker for what came after. See position for how
// it finds that place again.
package runtime
