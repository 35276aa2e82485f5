// Package attack holds tests that attack Hersh: a hostile program in a container as Hersh starts it (testdata/hostile), a
// daemon that does not do what it is told, and builds that reach for what is not theirs. Each test tries, and then checks from
// outside that nothing was felt. docs/security.md has the figures.
package attack
