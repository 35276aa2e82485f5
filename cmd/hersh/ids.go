package main

import (
	"fmt"
	"strings"

	"github.com/rlaaudgjs5638/hersh/client"
	"github.com/rlaaudgjs5638/hersh/events"
)

// shortLen is how much of the end of an ID tables show: the last group of its UUID.
const shortLen = 12

// program finds the program that an argument means: a whole ID, or a beginning or an end of one, or a beginning of what tables show
// of it, that only one program has.
func (a *app) program(c *client.Client, arg string) (events.ProgramID, error) {
	if id, err := events.ParseProgramID(arg); err == nil {
		return id, nil
	}
	if arg == "" || strings.Trim(arg, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", wrongUsage("%.100q is not a program ID, nor a part of one: those are made of a-z, 0-9 and '-'", arg)
	}
	tenant, err := c.Tenant(a.ctx) // Who may list no programs but their own.
	if err != nil {
		return "", err
	}
	var found []events.ProgramID
	for cp, err := range c.List(a.ctx, tenant) {
		if err != nil {
			return "", err
		}
		id := string(cp.State.ID)
		if strings.HasPrefix(id, arg) || strings.HasSuffix(id, arg) || strings.HasPrefix(short(cp.State.ID), arg) {
			found = append(found, cp.State.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", sentence(fmt.Sprintf("there is no program whose ID begins or ends with %q; `hersh ps` lists those that there are.", arg))
	}
	return "", ambiguous(arg, found)
}

func ambiguous(arg string, found []events.ProgramID) error {
	const shown = 10
	var text strings.Builder
	fmt.Fprintf(&text, "%q is short for %d programs; give more of one of these:", arg, len(found))
	for _, id := range found[:min(len(found), shown)] {
		fmt.Fprintf(&text, "\n  %s", id)
	}
	if len(found) > shown {
		fmt.Fprintf(&text, "\n  and %d more", len(found)-shown)
	}
	return sentence(text.String())
}

// short is the end of an ID, as tables show it.
func short(id events.ProgramID) string {
	if len(id) <= shortLen {
		return string(id)
	}
	return string(id[len(id)-shortLen:])
}

// parseUser reads the flag --user.
func parseUser(s string) (events.UserID, error) {
	user, err := events.ParseUserID(s)
	if err != nil {
		return "", wrongUsage("%.100q is not a user: 1 to %d characters of a-z, 0-9 and '-', neither starting nor ending with '-'", s, events.MaxUserID)
	}
	return user, nil
}
