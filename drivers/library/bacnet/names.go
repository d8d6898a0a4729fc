package main

import "strconv"

const (
	maxInstance = 4194303
	anyDevice   = maxInstance

	objectDevice = 8

	propertyPresentValue = 85
	propertyStatusFlags  = 111
	propertySystemStatus = 112
)

// named is one word of the standard's enumerations (ANSI/ASHRAE 135, clause 21).
type named struct {
	number uint32
	name   string
}

var objects = []named{
	{0, "analog-input"}, {1, "analog-output"}, {2, "analog-value"}, {3, "binary-input"}, {4, "binary-output"}, {5, "binary-value"},
	{6, "calendar"}, {7, "command"}, {8, "device"}, {9, "event-enrollment"}, {10, "file"}, {11, "group"}, {12, "loop"},
	{13, "multi-state-input"}, {14, "multi-state-output"}, {15, "notification-class"}, {16, "program"}, {17, "schedule"},
	{18, "averaging"}, {19, "multi-state-value"}, {20, "trend-log"}, {21, "life-safety-point"}, {22, "life-safety-zone"},
	{23, "accumulator"}, {24, "pulse-converter"}, {28, "load-control"}, {29, "structured-view"}, {30, "access-door"},
	{39, "bitstring-value"}, {40, "characterstring-value"}, {45, "integer-value"}, {46, "large-analog-value"},
	{48, "positive-integer-value"}, {54, "lighting-output"}, {55, "binary-lighting-output"}, {56, "network-port"},
}

var properties = []named{
	{4, "active-text"}, {8, "all-writes-successful"}, {22, "cov-increment"}, {25, "deadband"}, {28, "description"}, {36, "event-state"},
	{44, "firmware-revision"}, {45, "high-limit"}, {46, "inactive-text"}, {59, "low-limit"}, {65, "max-pres-value"}, {69, "min-pres-value"},
	{70, "model-name"}, {74, "number-of-states"}, {75, "object-identifier"}, {76, "object-list"}, {77, "object-name"}, {79, "object-type"},
	{81, "out-of-service"}, {84, "polarity"}, {85, "present-value"}, {87, "priority-array"}, {103, "reliability"},
	{104, "relinquish-default"}, {108, "setpoint"}, {110, "state-text"}, {111, "status-flags"}, {112, "system-status"}, {117, "units"},
	{120, "vendor-identifier"}, {121, "vendor-name"},
}

// find gives the number of a name, which may also be that number.
func find(all []named, name string, most uint32) (uint32, bool) {
	for _, n := range all {
		if n.name == name {
			return n.number, true
		}
	}
	n, err := strconv.ParseUint(name, 10, 32)
	return uint32(n), err == nil && uint32(n) <= most
}

func nameOf(all []named, number uint32) string {
	for _, n := range all {
		if n.number == number {
			return n.name
		}
	}
	return strconv.FormatUint(uint64(number), 10)
}

func objectName(number uint32) string { return nameOf(objects, number) }

// usual is how a property of an object is written, where nobody says; empty: not known.
func usual(object, property uint32) string {
	switch property {
	case propertyPresentValue, 104:
	case 22, 25, 45, 59, 65, 69, 108:
		if object == 46 {
			return "double"
		}
		return "real"
	case 81:
		return "boolean"
	case 4, 28, 44, 46, 70, 77, 121:
		return "text"
	case 36, 84, 103, 112, 117:
		return "enumerated"
	case 74, 120:
		return "unsigned"
	default:
		return ""
	}
	switch object {
	case 0, 1, 2, 12, 24, 54:
		return "real"
	case 3, 4, 5, 55:
		return "enumerated"
	case 13, 14, 19, 23, 48:
		return "unsigned"
	case 40:
		return "text"
	case 45:
		return "signed"
	case 46:
		return "double"
	}
	return ""
}

// kindOf is the JSON type of a property whose data are written so.
func kindOf(object, property uint32, as string) string {
	switch as {
	case "real", "double":
		return "number"
	case "boolean":
		return "boolean"
	case "enumerated":
		if (property == propertyPresentValue || property == 104) && object >= 3 && object <= 5 {
			return "boolean"
		}
		return "integer"
	case "unsigned", "signed":
		return "integer"
	case "text":
		return "string"
	}
	switch {
	case property == propertyStatusFlags:
		return "string"
	case property == propertyPresentValue && object == 39:
		return "string"
	}
	return "number"
}

var systemStatus = []string{"operational", "operational-read-only", "download-required", "download-in-progress", "non-operational", "backup-in-progress"}

var errorTexts = []named{
	{2, "its configuration is in progress"}, {3, "it is busy"}, {7, "the parameters contradict each other"}, {9, "the value has the wrong data type"},
	{20, "it has no space for the value"}, {25, "an operational problem"}, {27, "reading is denied"}, {29, "the request is denied"}, {30, "timeout"},
	{31, "there is no such object"}, {32, "there is no such property"}, {37, "the value is out of range"}, {40, "writing is denied"},
	{41, "it does not know the character set"}, {42, "the index is beyond the array"}, {43, "the subscription failed"},
	{44, "the property cannot be subscribed to"}, {45, "it does not support that"}, {50, "the property is no array"},
	{82, "the device does not exist"}, {133, "it is out of memory"},
}

var rejectTexts = []named{
	{0, "no reason"}, {1, "buffer overflow"}, {2, "inconsistent parameters"}, {3, "wrong data type"}, {4, "wrong tag"}, {5, "a parameter is missing"},
	{6, "a parameter is out of range"}, {7, "too many arguments"}, {8, "undefined enumeration"}, {9, "it does not know the service"},
}

var abortTexts = []named{
	{0, "no reason"}, {1, "buffer overflow"}, {2, "not in this state"}, {3, "preempted"}, {4, "segmentation is not supported"}, {5, "security error"},
	{8, "its application took too long"}, {9, "it is out of resources"}, {10, "timeout"}, {11, "the message is too long"},
}
