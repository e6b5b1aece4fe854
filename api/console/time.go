package console

import (
	"fmt"
	"time"
	_ "time/tzdata" // a container may have no zones of its own
)

// zoneNameMax is the longest name of a zone that is looked for, in bytes; those of tzdata have at most 38.
const zoneNameMax = 64

// Zone finds the time zone that a browser names; what is no zone is UTC.
func Zone(name string) *time.Location {
	if name == "" || name == "Local" || len(name) > zoneNameMax {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return zone
}

// Moment is a time as a person at some place reads it.
type Moment struct {
	Machine string // RFC 3339, for the time element
	Day     string
	Clock   string
	Exact   string // with seconds and zone
}

// NewMoment writes a time; the zero time is an empty Moment.
func NewMoment(language Language, at time.Time, zone *time.Location) Moment {
	if at.IsZero() {
		return Moment{}
	}
	local := at.In(zone)
	return Moment{
		Machine: at.UTC().Format(time.RFC3339Nano), Day: day(language, local), Clock: local.Format("15:04"),
		Exact: day(language, local) + " " + local.Format("15:04:05 MST"),
	}
}

var koreanDays = [...]string{"일", "월", "화", "수", "목", "금", "토"}

func day(language Language, at time.Time) string {
	if language == Korean {
		return fmt.Sprintf("%d년 %d월 %d일 (%s)", at.Year(), int(at.Month()), at.Day(), koreanDays[at.Weekday()])
	}
	return at.Format("Mon 2 Jan 2006")
}

// Days reads the first and the last day of a period, such as 2026-01-31, at a place: from is the beginning of the first
// day, until the beginning of the day after the last. An empty text leaves that side open; ok is false for other texts.
func Days(first, last string, zone *time.Location) (from, until time.Time, ok bool) {
	var err error
	if first != "" {
		if from, err = time.ParseInLocation(time.DateOnly, first, zone); err != nil {
			return time.Time{}, time.Time{}, false
		}
	}
	if last != "" {
		if until, err = time.ParseInLocation(time.DateOnly, last, zone); err != nil {
			return time.Time{}, time.Time{}, false
		}
		until = until.AddDate(0, 0, 1)
	}
	return from, until, true
}
