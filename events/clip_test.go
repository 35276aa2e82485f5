package events_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rlaaudgjs5638/hersh/events"
)

// Whatever an error says, an event with it can be encoded and is not refused by who reads it.
func TestEveryTextIsClipped(t *testing.T) {
	clipped := map[events.Type]bool{}
	for _, s := range samples() {
		for _, text := range []string{
			strings.Repeat("x", events.MaxText), strings.Repeat("x", events.MaxText) + "\xff", strings.Repeat("€", events.MaxText), strings.Repeat("x\xff", events.MaxText),
		} {
			ev := reflect.New(reflect.TypeOf(s.event)).Elem()
			ev.Set(reflect.ValueOf(s.event))
			if !setTexts(ev, text) {
				continue
			}
			clipped[s.event.Type()] = true
			checkClipped(t, ev.Interface().(events.Event))
		}
	}
	for _, want := range []events.Type{
		events.TypeHostLost, events.TypeFoldersEnsured, events.TypeBuildFinished, events.TypeStartFailed, events.TypeRuntimeExited, events.TypeStopFinished,
	} {
		if !clipped[want] {
			t.Errorf("no sample of %s has a text", want)
		}
	}
}

var texts = []string{"Error", "Reason"}

func setTexts(ev reflect.Value, text string) (any bool) {
	for i := range ev.NumField() {
		if slices.Contains(texts, ev.Type().Field(i).Name) {
			ev.Field(i).SetString(text)
			any = true
		}
	}
	return any
}

// checkClipped sends an event over the wire.
func checkClipped(t *testing.T, ev events.Event) {
	t.Helper()
	data, err := events.Encode(ev)
	if err != nil {
		t.Errorf("encode %s: %v", ev.Type(), err)
		return
	}
	back, err := events.Decode(alice, ev.Type(), data)
	if err != nil {
		t.Errorf("decode %s: %v", ev.Type(), err)
		return
	}
	got := reflect.ValueOf(back)
	for i := range got.NumField() {
		if !slices.Contains(texts, got.Type().Field(i).Name) {
			continue
		}
		if text := got.Field(i).String(); len(text) > events.MaxText || len(text) < events.MaxText-16 || !utf8.ValidString(text) {
			t.Errorf("%s of %s has %d bytes", got.Type().Field(i).Name, ev.Type(), len(text))
		}
	}
}
