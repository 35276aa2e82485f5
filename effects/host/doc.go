// Package host is the real EffectHandler: it runs effects with the folders of package storage, the specs of package compose and
// the Docker of package runtime. It adds what an executor needs of its machine besides: which containers are there, taking up
// their output again, and their exits.
package host
