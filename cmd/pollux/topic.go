package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func topicCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "topic",
		Aliases: []string{"topics"},
		Short:   "Durable streams of messages and their channels",
		Long: `A topic keeps messages in the order of their publication, within its limits. A channel is a named group of readers:
each message of the topic goes to one of them, and comes again until it is acknowledged. Another channel gets all of them too.
What a channel gives up is in the topic NAME.dead.`,
		Example: "  pollux topic create orders --max-age 24h\n  pollux topic publish orders '{\"room\":12}' --key room12\n  pollux topic tail orders --oldest\n" +
			"  pollux topic tail orders --channel billing",
	}))
	cmd.AddCommand(topicCreate(a), watcher(a, "topic", "topics"), topicUpdate(a), topicList(a), topicGet(a), topicPublish(a), topicTail(a), topicSeek(a), topicReplay(a), topicChannel(a), topicRoute(a),
		remover(a, "rm ID", "Remove a topic with its messages and channels", "  pollux topic rm orders", "topic",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.topics.DeleteTopic(ctx, req(&pb.DeleteTopicRequest{Id: id}))
				return err
			}))
	return cmd
}

// topicFlags are what can be configured of a topic.
type topicFlags struct {
	title    string
	age      time.Duration
	messages uint64
	bytes    string
}

func (f *topicFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.title, "title", "", "name for people")
	cmd.Flags().DurationVar(&f.age, "max-age", 0, "keep messages for this `LONG`, such as 36h (7 days where it is not given)")
	cmd.Flags().Uint64Var(&f.messages, "max-messages", 0, "keep so many messages (1,000,000 where it is not given)")
	cmd.Flags().StringVar(&f.bytes, "max-bytes", "", "keep this `SIZE`, such as 100MiB (1 GiB where it is not given)")
}

func (f *topicFlags) into(cmd *cobra.Command, t *pb.Topic) error {
	if cmd.Flags().Changed("title") {
		t.Title = f.title
	}
	if cmd.Flags().Changed("max-age") {
		t.MaxAge = spanOf(f.age)
	}
	if cmd.Flags().Changed("max-messages") {
		t.MaxMessages = f.messages
	}
	if cmd.Flags().Changed("max-bytes") {
		n, err := bytesOf(f.bytes)
		if err != nil {
			return usagef("--max-bytes %s: want bytes, or a SIZE such as 100MiB", f.bytes)
		}
		t.MaxBytes = n
	}
	return nil
}

func topicCreate(a *app) *cobra.Command {
	var f topicFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Create a topic", Args: exactly("ID"),
		Long:    "Creates a topic. Beyond its limits the oldest messages are removed, and counted, whether they were read or not.",
		Example: "  pollux topic create orders\n  pollux topic create hotel/alarms --max-age 720h --max-messages 10000",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			t := &pb.Topic{Id: args[0]}
			if err := f.into(cmd, t); err != nil {
				return err
			}
			res, err := n.topics.CreateTopic(cmd.Context(), req(&pb.CreateTopicRequest{Topic: t}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Topic, func(w io.Writer) { row(w, "topic "+res.Msg.Topic.Id+" is there") })
		},
	}
	f.add(cmd)
	return cmd
}

func topicUpdate(a *app) *cobra.Command {
	var f topicFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a topic's limits or title", Args: exactly("ID"),
		Long:    "Changes what the flags name and leaves the rest. A limit of 0 is the one of a topic that names none.",
		Example: "  pollux topic update orders --max-age 48h",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			old, err := n.topics.GetTopic(cmd.Context(), req(&pb.GetTopicRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			t := old.Msg.Topic
			if err := f.into(cmd, t); err != nil {
				return err
			}
			t.State = nil
			res, err := n.topics.UpdateTopic(cmd.Context(), req(&pb.UpdateTopicRequest{Topic: t}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Topic, func(w io.Writer) { row(w, "topic "+res.Msg.Topic.Id+" is changed") })
		},
	}
	f.add(cmd)
	return cmd
}

func topicList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the topics and what they hold", Example: "  pollux topic list\n  pollux topic list --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, err := n.topicList(cmd.Context(), project)
			if err != nil {
				return err
			}
			for i, t := range all.Topics {
				// One that is moving, or was deleted meanwhile, is listed without what it holds.
				if res, err := n.topics.GetTopic(cmd.Context(), req(&pb.GetTopicRequest{Id: t.Id})); err == nil {
					all.Topics[i] = res.Msg.Topic
				}
			}
			return a.show(all, func(w io.Writer) { listTopics(w, all.Topics) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// topicList of a project, or of all.
func (n *node) topicList(ctx context.Context, project string) (*pb.ListTopicsResponse, error) {
	all := &pb.ListTopicsResponse{}
	for token := ""; ; {
		res, err := n.topics.ListTopics(ctx, req(&pb.ListTopicsRequest{Project: project, PageSize: pageSize, PageToken: token}))
		if err != nil {
			return nil, err
		}
		all.Topics = append(all.Topics, res.Msg.Topics...)
		if token = res.Msg.NextPageToken; token == "" {
			return all, nil
		}
	}
}

func listTopics(w io.Writer, topics []*pb.Topic) {
	row(w, "ID", "MESSAGES", "SIZE", "NEXT", "TRIMMED", "CHANNELS", "NODE", "TITLE")
	for _, t := range topics {
		switch s := t.State; {
		case t.Deleting:
			row(w, bare(t.Id), "being deleted", "", "", "", "", "", t.Title)
		case s == nil:
			row(w, bare(t.Id), "–", "–", "–", "–", "–", "–", t.Title)
		default:
			row(w, bare(t.Id), s.Messages, bytesText(s.Bytes), s.NextOffset, s.Trimmed, s.Channels, s.Node, t.Title)
		}
	}
}

func topicGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a topic, its limits and its channels", Example: "  pollux topic get orders", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.GetTopic(cmd.Context(), req(&pb.GetTopicRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			all := &pb.ListChannelsResponse{}
			for token := ""; ; {
				page, err := n.topics.ListChannels(cmd.Context(), req(&pb.ListChannelsRequest{Topic: args[0], PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Channels = append(all.Channels, page.Msg.Channels...)
				if token = page.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.showTopic(res.Msg.Topic, all)
		},
	}
}

// showTopic prints a topic and, beside it, its channels.
func (a *app) showTopic(t *pb.Topic, all *pb.ListChannelsResponse) error {
	if a.table() {
		return a.show(t, func(w io.Writer) { describeTopic(w, t, all.Channels) })
	}
	var both struct {
		Topic    json.RawMessage   `json:"topic"`
		Channels []json.RawMessage `json:"channels,omitempty"`
	}
	var err error
	if both.Topic, err = jsonOf(t); err != nil {
		return err
	}
	for _, c := range all.Channels {
		text, err := jsonOf(c)
		if err != nil {
			return err
		}
		both.Channels = append(both.Channels, text)
	}
	text, err := json.MarshalIndent(both, "", "  ")
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if a.output == "yaml" {
		return a.yamlOf(text)
	}
	a.printf("%s\n", text)
	return nil
}

func describeTopic(w io.Writer, t *pb.Topic, channels []*pb.Channel) {
	s := t.State
	row(w, "topic", t.Id)
	row(w, "title", dash(t.Title))
	row(w, "messages", fmt.Sprintf("%d from offset %d, %s; the next is %d", s.GetMessages(), s.GetFirstOffset(), bytesText(s.GetBytes()), s.GetNextOffset()))
	row(w, "limits", fmt.Sprintf("%s, %d messages, %s", orElse(t.MaxAge.AsDuration(), 7*24*time.Hour), orElse(t.MaxMessages, 1_000_000), bytesText(orElse(t.MaxBytes, 1<<30))))
	row(w, "trimmed", s.GetTrimmed())
	row(w, "duplicates", s.GetDuplicates())
	row(w, "node", dash(s.GetNode()))
	fmt.Fprintln(w)
	listChannels(w, channels)
}

func orElse[T comparable](v, d T) T {
	var none T
	if v == none {
		return d
	}
	return v
}

func listChannels(w io.Writer, channels []*pb.Channel) {
	row(w, "CHANNEL", "ACK", "LAG", "OLDEST", "IN FLIGHT", "WAITING", "READERS", "READ", "AGAIN", "DEAD", "MISSED")
	for _, c := range channels {
		oldest := "–"
		if c.Oldest != nil {
			oldest = c.Oldest.AsDuration().Round(time.Second).String()
		}
		row(w, c.Name, enumText(c.Settings.GetAckMode(), "ACK_MODE_"), c.Lag, oldest, c.InFlight, c.Waiting, c.Readers, c.Acknowledged, c.Redelivered, c.Dead, c.Missed)
	}
}

// publishLines is how many lines of a file go in one call.
const publishLines = 200

func topicPublish(a *app) *cobra.Command {
	var key, id, kind, file string
	var headers []string
	cmd := &cobra.Command{
		Use: "publish TOPIC [PAYLOAD]", Short: "Publish a message, or each line of a file",
		Long: `Publishes a message and waits until it is committed. Without a payload and a file each line of the input is a message.
Messages of one key are read in their order. One that has the id of an earlier one is not stored again.`,
		Example: "  pollux topic publish orders '{\"room\":12}' --key room12 --type application/json\n  pollux topic publish orders --file lines.txt\n  tail -f log | pollux topic publish log",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			m := &pb.TopicMessage{Key: key, Id: id, ContentType: kind, Headers: map[string]string{}}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, "=")
				if !ok || name == "" {
					return usagef("--header %q: want NAME=VALUE", h)
				}
				m.Headers[name] = value
			}
			if len(args) == 2 {
				m.Payload = []byte(args[1])
				return a.publish(cmd.Context(), n, args[0], []*pb.TopicMessage{m})
			}
			if id != "" {
				return usagef("--id is for one message: give its payload")
			}
			in := a.in
			if file != "" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			return a.publishAll(cmd.Context(), n, args[0], m, in)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "whose messages keep their order, such as a device's name")
	cmd.Flags().StringVar(&id, "id", "", "by which a repetition is known")
	cmd.Flags().StringVar(&kind, "type", "", "content type, such as application/json")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "header as `NAME=VALUE`; many times")
	cmd.Flags().StringVar(&file, "file", "", "publish each line of this `FILE`")
	return cmd
}

// publishAll publishes each line.
func (a *app) publishAll(ctx context.Context, n *node, topic string, like *pb.TopicMessage, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 300<<10)
	var batch []*pb.TopicMessage
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := a.publish(ctx, n, topic, batch)
		batch, size = nil, 0
		return err
	}
	for lines.Scan() {
		m := &pb.TopicMessage{Key: like.Key, ContentType: like.ContentType, Headers: like.Headers, Payload: []byte(lines.Text())}
		if size += len(m.Payload) + 200; size > 200<<10 {
			if err := flush(); err != nil {
				return err
			}
			size = len(m.Payload)
		}
		batch = append(batch, m)
		if len(batch) == publishLines || in == a.in {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read lines: %w", err)
	}
	return flush()
}

func (a *app) publish(ctx context.Context, n *node, topic string, batch []*pb.TopicMessage) error {
	res, err := n.topics.Publish(ctx, req(&pb.PublishRequest{Topic: topic, Messages: batch}))
	if err != nil {
		return err
	}
	return a.line(res.Msg, func() {
		o := res.Msg.Offsets
		what := fmt.Sprintf("offset %d", o[0])
		if len(o) > 1 {
			what = fmt.Sprintf("%d messages, offsets %d to %d", len(o), o[0], o[len(o)-1])
		}
		if res.Msg.Duplicates > 0 {
			what += fmt.Sprintf(", %d known already", res.Msg.Duplicates)
		}
		a.printf("%s\n", what)
	})
}
