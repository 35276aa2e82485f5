// Package api is the request API of Hersh: a NATS micro service named "hersh", so that `nats micro ls` finds it. It runs
// beside every supervisor; the instances share a queue group, so a request reaches one of them. Package wire has the JSON.
//
//	server.go    subscriptions, the bounded queue, workers, replies
//	endpoints.go which verb is served by what; decoding of requests
//	programs.go  create, list, get, delete
//	history.go   history
//	logs.go      logs
//	hosts.go     hosts.list, hosts.register, hosts.drain
//	waiting.go   why a program waits for a host
//
// The handlers of a micro endpoint run one at a time, so a handler here only puts the request into a queue; what does not fit
// is refused at once, as busy. Nothing is kept between requests: every answer about one program comes from its log.
package api
