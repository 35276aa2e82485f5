// Package client is the Go SDK of Hersh, which its own command line uses: deploy a folder, start and stop programs, follow
// what happens to them.
//
// It needs a NATS connection and nothing else, JetStream neither. Events are published with core NATS, and are acknowledged once they
// are stored; everything else, uploads too, is the request API of package wire.
//
// Live iterators (Watch, Logs with follow) use the live feed only to know that there is news, and read what is new through the
// request API, so nothing is missed or given twice, over reconnects too.
package client
