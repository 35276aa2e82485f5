// Package service is what every service of Hersh has: its log, its monitor (health, readiness, metrics), its signals, its
// version.
package service
