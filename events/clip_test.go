package events

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Whatever an error says, an event with it can be encoded and is not refused by who reads it.
func TestEveryTextIsClipped(t *testing.T) {
	clipped := 0
	for _, s := range []Event{
		ProgramCreated{}, HostLost{}, UserStartRequested{}, UserStopRequested{}, UserRestartRequested{}, FoldersEnsured{},
		BuildFinished{}, RuntimeStarted{}, StartFailed{}, RuntimeExited{}, StopFinished{},
	} {
		ev := reflect.New(reflect.TypeOf(s)).Elem()
		for i := range ev.NumField() {
			if slices.Contains([]string{"Error", "Reason"}, ev.Type().Field(i).Name) {
				ev.Field(i).SetString(strings.Repeat("x", MaxText) + "\xff")
			}
		}
		got := reflect.ValueOf(clipTexts(ev.Interface().(Event)))
		for i := range got.NumField() {
			if slices.Contains([]string{"Error", "Reason"}, got.Type().Field(i).Name) {
				clipped++
				if len(got.Field(i).String()) > MaxText {
					t.Errorf("%s of %s has %d bytes", got.Type().Field(i).Name, s.Type(), got.Field(i).Len())
				}
			}
		}
	}
	if clipped < 6 {
		t.Errorf("only %d events have a text", clipped)
	}
}
