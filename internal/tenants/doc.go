// Package tenants makes the configuration of a NATS server on which nobody gets in who should not, and nobody reaches what is
// somebody else's.
//
//	model.go     who there is: the services of Hersh, its hosts, its tenants, each with the public key of its user
//	config.go    accounts.conf of a model, and nothing else: the same model gives the same bytes
//	policy.go    which subjects cross from one account into another, and what each user may say and hear
//	dir.go       the folder that an operator keeps: model.json, nats.conf, accounts.conf, keys/
//
// Why accounts and not only permissions: inside one account a client can point the reply subject of a request that it may make at a
// subject that it may not publish to, and the server sends the answer there. What it answers can be chosen, since a stored message
// can be asked for. So everybody whom Hersh does not trust with everything has an account of their own: each tenant, and each host.
// What crosses into the account of Hersh crosses by an import, which has one exact subject, and an answer goes back into the account
// that the request came from.
package tenants
