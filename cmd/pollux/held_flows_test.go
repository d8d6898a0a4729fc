package main

import "path/filepath"

func heldFlows(dir string) []heldRecord {
	secret := filepath.Join(dir, "secret")
	return []heldRecord{
		{record: `topic: {id: t, title: Orders, maxAge: 3600s, maxMessages: 1234, maxBytes: 5242880}`,
			get: []string{"topic", "get", "held/t"}, change: []string{"topic", "update", "held/t"}, within: "topic", fields: map[string]heldField{
				"title":        {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Orders"},
				"max_age":      {set: []string{"--max-age", "5h"}, clear: []string{"--max-age", "0"}, shown: "1h0m0s"},
				"max_messages": {set: []string{"--max-messages", "5"}, clear: []string{"--max-messages", "0"}, shown: "1234"},
				"max_bytes":    {set: []string{"--max-bytes", "1MiB"}, clear: []string{"--max-bytes", "0"}, shown: "5.0 MiB"},
			}},
		{record: `route: {id: r, topics: [changes], twins: [m1], zone: hq, labels: {a: b}, driver: echo, model: meter, properties: [power], events: [e], when: "value > 3.0", terminate: true, run: filter}`,
			get: []string{"topic", "route", "get", "held/r"}, change: []string{"topic", "route", "put", "held/r"}, replaces: true, base: []string{"--to", "changes"}, fields: map[string]heldField{
				"topics":     {set: []string{"--to", "more"}, shown: "changes"},
				"twins":      {set: []string{"--twin", "m2"}, shown: "m1"},
				"zone":       {set: []string{"--zone", "aula"}, shown: "hq"},
				"labels":     {set: []string{"--label", "c=d"}, shown: "a=b"},
				"driver":     {set: []string{"--driver", "x"}, shown: "echo"},
				"model":      {set: []string{"--model", "other"}, shown: "meter"},
				"properties": {set: []string{"--property", "x"}, shown: "power"},
				"events":     {set: []string{"--event", "x"}, shown: "event e"},
				"when":       {set: []string{"--when", "true"}, shown: "value > 3.0"},
				"terminate":  {set: []string{"--terminate"}, shown: "no further"},
				"run":        {set: []string{"--run", "filter"}, shown: "filter"},
			}},
		{record: `sink: {id: s, title: Lake, topic: changes, url: "https://a:1/x", secret: abc, batchMessages: 321, batchWait: 7s, oldest: true, paused: true}`,
			get: []string{"sink", "get", "held/s"}, change: []string{"sink", "update", "held/s"}, fields: map[string]heldField{
				"title":          {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Lake"},
				"topic":          {set: []string{"--topic", "held/more"}, shown: "changes"},
				"url":            {set: []string{"--to", "https://a:1/y"}, shown: "https://a:1/x"},
				"secret":         {set: []string{"--secret-file", secret}, clear: []string{"--secret-file="}, shown: "sealed"},
				"batch_messages": {set: []string{"--batch", "5"}, clear: []string{"--batch", "0"}, shown: "321"},
				"batch_wait":     {set: []string{"--batch-wait", "5s"}, clear: []string{"--batch-wait", "0"}, shown: "7s"},
				"oldest":         {set: []string{"--oldest=false"}},
				"paused":         {set: []string{"=", "sink", "resume", "held/s"}, shown: "paused"},
			}},
		{record: `source: {id: s, title: Plant, url: "kafka://127.0.0.1:1/x?user=a&sasl=plain", secret: abc, paused: true}`,
			get: []string{"source", "get", "held/s"}, change: []string{"source", "update", "held/s"}, fields: map[string]heldField{
				"title":  {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Plant"},
				"url":    {set: []string{"--from", "kafka://127.0.0.1:1/y?user=a&sasl=plain"}, shown: "127.0.0.1:1/x"},
				"secret": {set: []string{"--secret-file", secret}, clear: []string{"--secret-file="}, shown: "sealed"},
				"paused": {set: []string{"=", "source", "resume", "held/s"}, shown: "paused"},
			}},
		{record: `simulation: {id: s, title: Day, scenario: "twins: [m1]\nrecord: {csv: x.csv}\n", csv: "time,power\n0,1\n10,2\n", paused: true, speed: 2.5, from: "2020-01-01T00:00:00Z", model: meter}`,
			get: []string{"sim", "get", "held/s"}, change: []string{"sim", "update", "held/s"}, fields: map[string]heldField{
				"title":    {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Day"},
				"scenario": {why: "a file, which brings its record along", shown: "x.csv"},
				"csv":      {set: []string{"--csv", filepath.Join(dir, "record.csv")}},
				"paused":   {set: []string{"--paused=false"}, shown: "paused"},
				"speed":    {set: []string{"--speed", "max"}, shown: "2.5"},
				"from":     {set: []string{"--from", "-1h"}, clear: []string{"--from="}, shown: "2020-01-01"},
				"model":    {set: []string{"--model", "other"}, clear: []string{"--model="}, shown: "meter"},
			}},
		{record: `detector: {id: d, title: Spikes, of: {twins: [m1], zone: hq, system: room, labels: {a: b}, model: meter, driver: echo, interface: Powerable}, property: power, kind: DETECTOR_KIND_EWMA, threshold: 6.5, readings: 77, paused: true, output: w}`,
			get: []string{"detector", "get", "held/d"}, change: []string{"detector", "update", "held/d"}, fields: map[string]heldField{
				"title":     {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Spikes"},
				"of":        {set: []string{"--zone", "aula"}, shown: "interface=Powerable"},
				"property":  {set: []string{"--property", "x"}, shown: "power"},
				"kind":      {set: []string{"--kind", "shift"}, shown: "ewma"},
				"threshold": {set: []string{"--threshold", "7"}, clear: []string{"--threshold", "0"}, shown: "6.5"},
				"readings":  {set: []string{"--readings", "5"}, clear: []string{"--readings", "0"}, shown: "77"},
				"output":    {set: []string{"--prefix", "x"}, clear: []string{"--prefix="}, shown: "w"},
				"paused":    {set: []string{"=", "detector", "resume", "held/d"}, shown: "paused"},
			}},
		{record: `detector: {id: e, property: power, kind: DETECTOR_KIND_STUCK, window: 65s, tolerance: 0.25}`,
			get: []string{"detector", "get", "held/e"}, change: []string{"detector", "update", "held/e"}, fields: map[string]heldField{
				"window":    {set: []string{"--window", "5m"}, clear: []string{"--window", "0"}, shown: "1m5s"},
				"tolerance": {set: []string{"--tolerance", "5"}, clear: []string{"--tolerance", "0"}, shown: "0.25"},
			}},
		{record: `detector: {id: g, property: power, kind: DETECTOR_KIND_SEASONAL, timeZone: Europe/Berlin}`,
			get: []string{"detector", "get", "held/g"}, change: []string{"detector", "update", "held/g"}, fields: map[string]heldField{
				"time_zone": {set: []string{"--time-zone", "Europe/Paris"}, clear: []string{"--time-zone="}, shown: "Europe/Berlin"},
			}},
		{record: `detector: {id: h, property: power, kind: DETECTOR_KIND_MODULE, logic: filter, threshold: 2}`,
			get: []string{"detector", "get", "held/h"}, change: []string{"detector", "update", "held/h"}, fields: map[string]heldField{
				"logic": {why: "with its kind", shown: "filter"},
			}},
	}
}
