package main

import "path/filepath"

func heldAutomation(dir string) []heldRecord {
	secret := filepath.Join(dir, "secret")
	return []heldRecord{
		{record: `notifier: {id: mail, title: Post, mail: {host: 127.0.0.1, port: 1, security: MAIL_SECURITY_TLS, user: u, from: a@b, to: [c@d]}, secret: abc, subject: "S ${subject}", body: "B ${body}", paused: true,
  attachments: [{name: n.txt, text: hello}], retryMin: 3s, retryMax: 61s, giveUp: 62s, limit: 7, limitPer: 63s, quiet: [{from: "22:00", to: "06:00"}], zone: Europe/Berlin, keep: 555}`,
			get: []string{"notifier", "get", "held/mail"}, change: []string{"notifier", "update", "held/mail"}, fields: map[string]heldField{
				"title":       {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Post"},
				"mail":        {set: []string{"--to", "x@y"}, shown: "127.0.0.1"},
				"secret":      {set: []string{"--secret-file", secret}, shown: "sealed"},
				"subject":     {set: []string{"--subject", "x"}, clear: []string{"--subject="}, shown: "S ${subject}"},
				"body":        {set: []string{"--body", "x"}, clear: []string{"--body="}, shown: "B ${body}"},
				"attachments": {why: "in a file for apply", shown: "n.txt"},
				"retry_min":   {set: []string{"--retry-min", "5s"}, clear: []string{"--retry-min", "0"}, shown: "3s"},
				"retry_max":   {set: []string{"--retry-max", "5m"}, clear: []string{"--retry-max", "0"}, shown: "1m1s"},
				"give_up":     {set: []string{"--give-up", "5m"}, clear: []string{"--give-up", "0"}, shown: "1m2s"},
				"limit":       {set: []string{"--limit", "5"}, clear: []string{"--limit", "0"}, shown: "7 in"},
				"limit_per":   {set: []string{"--limit-per", "5m"}, clear: []string{"--limit-per", "0"}, shown: "1m3s"},
				"quiet":       {set: []string{"--quiet", "20:00-21:00"}, clear: []string{"--quiet", "-"}, shown: "22:00-06:00"},
				"zone":        {set: []string{"--zone", "Europe/Paris"}, clear: []string{"--zone="}, shown: "Europe/Berlin"},
				"keep":        {set: []string{"--keep", "5"}, clear: []string{"--keep", "0"}, shown: "555"},
				"paused":      {set: []string{"=", "notifier", "resume", "held/mail"}, shown: "paused"},
			}},
		{record: `notifier: {id: form, sms: {form: {url: "http://127.0.0.1:1/", fields: {a: "${body}"}, user: u, headers: {X-A: b}}, to: ["+49"]}, secret: abc, paused: true}`,
			get: []string{"notifier", "get", "held/form"}, change: []string{"notifier", "update", "held/form"}, fields: map[string]heldField{
				"sms": {set: []string{"--to", "+48"}, shown: "+49"}}},
		{record: `notifier: {id: chat, webhook: {preset: WEBHOOK_PRESET_NTFY, url: "http://127.0.0.1:1/", headers: {X-A: b}, to: [a]}, paused: true}`,
			get: []string{"notifier", "get", "held/chat"}, change: []string{"notifier", "update", "held/chat"}, fields: map[string]heldField{
				"webhook": {set: []string{"--header="}, shown: "ntfy"}}},
		{record: `notifier: {id: broker, mqtt: {topic: a/b, qos: 2, retain: true}}`,
			get: []string{"notifier", "get", "held/broker"}, change: []string{"notifier", "update", "held/broker"}, fields: map[string]heldField{
				"mqtt": {set: []string{"--qos", "0"}, shown: "retain"}}},
		{record: `notifier: {id: own, logic: {logic: filter, to: [a], keyed: true}}`,
			get: []string{"notifier", "get", "held/own"}, change: []string{"notifier", "update", "held/own"}, fields: map[string]heldField{
				"logic": {set: []string{"--keyed=false"}, shown: "filter"}, "log": {why: "it has nothing"}}},
		{record: `schedule: {id: s, title: First, timing: {zone: Europe/Berlin, calendar: {times: ["07:00"], weekdays: [mon], days: [1, 2, 3, 4, 5, 6, 7], months: [6, 12], except: ["12-24"]}}, windows: [{from: "05:00", to: "08:00", weekdays: [mon]}], jitter: 9s, missed: MISSED_ALL, actions: [{call: {to: {twin: m1}, action: a}}], paused: true}`,
			get: []string{"schedule", "get", "held/s"}, change: []string{"schedule", "put", "held/s"}, within: "schedule", replaces: true, base: []string{"--daily", "07:00", "--call", "m1.a"}, fields: map[string]heldField{
				"title":   {set: []string{"--title", "x"}, shown: "First"},
				"timing":  {set: []string{"--months", "6"}, shown: "in months [6 12]"},
				"windows": {set: []string{"--from", "06:00", "--to", "08:00"}, shown: "05:00-08:00"},
				"jitter":  {set: []string{"--jitter", "5s"}, shown: "9s"},
				"missed":  {set: []string{"--missed", "all"}, shown: "all"},
				"actions": {set: []string{"--set", "m1.p=1"}, shown: "call a on"},
				"paused":  {set: []string{"--paused"}, shown: "paused"},
			}},
		{record: `rule: {id: r, title: Hot, when: [{property: {of: {twins: [m1]}, names: [power]}}], if: "value > 3.0", until: "value < 2.0", for: 61s, then: [{call: {to: {twin: m1}, action: a}}], otherwise: [{call: {to: {twin: m1}, action: b}}], repeat: 62s, each: true, settle: 63s,
  oncePer: 64s, together: true, atLeast: 2, windows: [{from: "05:00", to: "08:00"}], zone: Europe/Berlin, priority: 33, disableAfter: 77, limit: 88, paused: true, stopOnStorm: true}`,
			get: []string{"rule", "get", "held/r"}, change: []string{"rule", "put", "held/r"}, within: "rule", replaces: true, base: []string{"--on", "m1.power", "--call", "m1.a"}, fields: map[string]heldField{
				"title":         {set: []string{"--title", "x"}, shown: "Hot"},
				"when":          {set: []string{"--on-event", "m1.e"}, shown: "m1.power"},
				"if":            {set: []string{"--if", "true"}, shown: "value > 3.0"},
				"until":         {set: []string{"--until", "true"}, shown: "value < 2.0"},
				"for":           {set: []string{"--for", "5m"}, shown: "1m1s"},
				"then":          {set: []string{"--call", "m1.a"}, shown: "call a on"},
				"otherwise":     {set: []string{"--else-call", "m1.a"}, shown: "call b on"},
				"repeat":        {set: []string{"--repeat", "5m"}, shown: "1m2s"},
				"each":          {set: []string{"--each"}, shown: "each"},
				"settle":        {set: []string{"--settle", "5m"}, shown: "1m3s"},
				"once_per":      {set: []string{"--once-per", "5m"}, shown: "1m4s"},
				"at_least":      {set: []string{"--at-least", "5"}, shown: "2"},
				"together":      {set: []string{"--together"}, shown: "together"},
				"windows":       {why: "in a file for apply", shown: "05:00-08:00"},
				"zone":          {why: "with the windows", shown: "Europe/Berlin"},
				"priority":      {why: "in a file for apply", shown: "33"},
				"disable_after": {set: []string{"--disable-after", "5"}, shown: "77"},
				"limit":         {set: []string{"--limit", "5"}, shown: "88"},
				"paused":        {set: []string{"=", "rule", "pause", "held/r"}, shown: "paused"},
				"stop_on_storm": {set: []string{"--stop-on-storm"}, shown: "stop on storm"},
			}},
	}
}
