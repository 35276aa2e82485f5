package service_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rlaaudgjs5638/hersh/internal/service"
)

// The kernel tells elsewhere too how long the machine has been up, suspended or not.
func TestUptimeIsThatOfTheMachine(t *testing.T) {
	uptime := service.Uptime()
	if uptime == nil {
		t.Fatal("Linux has such a clock")
	}
	before := uptime()
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip(err)
	}
	after := uptime()
	text, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	const coarse = 20 * time.Millisecond // It has hundredths of a second.
	if told := time.Duration(seconds * float64(time.Second)); told < before-coarse || told > after+coarse {
		t.Errorf("the machine is up for %s, the clock says %s to %s", told, before, after)
	}
}
