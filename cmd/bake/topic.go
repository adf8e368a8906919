package main

import (
	"embed"
	"fmt"
	"strings"

	"bake/internal/host"
)

//go:embed topic/*.txt
var topicFiles embed.FS

// topics are what bake help explains besides the commands.
var topics = []struct{ name, about string }{
	{"hosts", "the host file and all its keys"},
	{"layers", "what layers are, how they merge, where yours go"},
	{"secrets", "where a host's secrets come from and where they go"},
	{"trust", "why images, packages and machines are believed"},
	{"exit-status", "what the exit statuses mean"},
}

// topicList ends the help of the application.
func topicList() string {
	text := "TOPICS (bake help TOPIC)\n"
	for _, t := range topics {
		text += fmt.Sprintf("   %-12s %s\n", t.name, t.about)
	}
	return text
}

// topic is the text of a topic, "" if there is none of that name.
func topic(name string) string {
	if name == "exit-status" {
		return exitStatus + "\nOf several hosts the first failure decides; nightly has a verdict for each. bake ssh ends\nwith what ssh ends with.\n"
	}
	data, err := topicFiles.ReadFile("topic/" + name + ".txt")
	if err != nil {
		return ""
	}
	if name == "hosts" {
		return string(data) + "\n" + keyList()
	}
	return string(data)
}

// keyList is every key of the host file, one a line and what it is below.
func keyList() string {
	var out strings.Builder
	for _, k := range host.Keys() {
		fmt.Fprintf(&out, "    %-26s %s", k.Path, k.Form)
		if k.Default != "" {
			fmt.Fprintf(&out, " (%s)", k.Default)
		}
		out.WriteString("\n")
		if k.About != "" {
			fmt.Fprintf(&out, "        %s\n", k.About)
		}
	}
	return out.String()
}
