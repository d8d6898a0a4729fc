import { clone, create } from "@bufbuild/protobuf";

import { WindowSchema } from "../../gen/pollux/v1/automation_pb";
import {
  FormSmsSchema, LogicNotifierSchema, LogNotifierSchema, MailNotifierSchema, MailSecurity, MqttNotifierSchema, NotifierSchema, SmsNotifierSchema, TwilioSmsSchema, WebhookNotifierSchema, WebhookPreset,
  type Notifier,
} from "../../gen/pollux/v1/notify_pb";
import { full } from "../../model/id";

/** What the form knows as a kind: providers of text messages and chats are kinds of their own here. */
export const kinds = {
  mail: { name: "Mail", secret: "Password of the user", needs: ["host", "from"] },
  twilio: { name: "Text message: Twilio", secret: "Token of the account", needs: ["account", "from"] },
  form: { name: "Text message: form", secret: "${secret} in a field, or the user’s password", needs: ["url"] },
  webhook: { name: "Webhook, signed", secret: "Key that signs", needs: ["url"] },
  telegram: { name: "Telegram", secret: "Token of the bot", needs: [] },
  slack: { name: "Slack", secret: "Address of the incoming webhook", needs: [] },
  teams: { name: "Teams", secret: "Address of the workflow’s webhook", needs: [] },
  ntfy: { name: "ntfy", secret: "Access token, where there is one", needs: [] },
  mqtt: { name: "MQTT", secret: "", needs: ["topic"] },
  log: { name: "Log of the node", secret: "", needs: [] },
  logic: { name: "Logic of your own", secret: "", needs: ["logic"] },
} as const satisfies Record<string, { name: string; secret: string; needs: readonly (keyof Draft)[] }>;

export type Kind = keyof typeof kinds;

/** A notifier as the form has it. */
export interface Draft {
  kind: Kind;
  id: string;
  title: string;
  host: string;
  port: string;
  security: string;
  user: string;
  from: string;
  account: string;
  url: string;
  topic: string;
  logic: string;
  keyed: boolean;
  to: string[];
  fields: string[];
  secret: string;
  subject: string;
  body: string;
  quietFrom: string;
  quietTo: string;
  zone: string;
  limit: string;
}

/** Which fields a kind has, beside those that all have. */
export const shown: Record<Kind, (keyof Draft)[]> = {
  mail: ["host", "port", "security", "user", "from", "to", "secret"],
  twilio: ["account", "from", "to", "secret"],
  form: ["url", "fields", "user", "to", "secret"],
  webhook: ["url", "secret"],
  telegram: ["to", "secret"],
  slack: ["secret"],
  teams: ["secret"],
  ntfy: ["to", "url", "secret"],
  mqtt: ["topic"],
  log: [],
  logic: ["logic", "to", "keyed"],
};

const presets: Partial<Record<Kind, WebhookPreset>> = {
  webhook: WebhookPreset.UNSPECIFIED,
  telegram: WebhookPreset.TELEGRAM,
  slack: WebhookPreset.SLACK,
  teams: WebhookPreset.TEAMS,
  ntfy: WebhookPreset.NTFY,
};

export function kindOf(m: Notifier): Kind {
  switch (m.kind.case) {
    case "sms":
      return m.kind.value.provider.case === "form" ? "form" : "twilio";
    case "webhook": {
      const { preset } = m.kind.value;
      return (Object.keys(presets) as Kind[]).find((k) => presets[k] === preset) ?? "webhook";
    }
    case "mail":
    case "mqtt":
    case "logic":
      return m.kind.case;
    default:
      return "log";
  }
}

/** Where a notifier's messages go, in a few words. */
export function whereTo(m: Notifier): string {
  switch (m.kind.case) {
    case "mail":
    case "sms":
      return m.kind.value.to.join(", ");
    case "webhook":
      return m.kind.value.to.join(", ") || m.kind.value.url;
    case "mqtt":
      return m.kind.value.topic;
    case "logic":
      return m.kind.value.to.join(", ") || m.kind.value.logic;
    default:
      return "";
  }
}

export const empty: Draft = {
  kind: "mail", id: "", title: "", host: "", port: "", security: "starttls", user: "", from: "", account: "", url: "", topic: "", logic: "", keyed: false, to: [], fields: [], secret: "",
  subject: "", body: "", quietFrom: "", quietTo: "", zone: "", limit: "",
};

/** The form of a notifier that is there. Its secret is not known. */
export function read(m: Notifier): Draft {
  const d: Draft = {
    ...empty, kind: kindOf(m), id: m.id, title: m.title, subject: m.subject, body: m.body, zone: m.zone, limit: m.limit ? String(m.limit) : "",
    quietFrom: m.quiet[0]?.from ?? "", quietTo: m.quiet[0]?.to ?? "",
  };
  const k = m.kind;
  if (k.case === "mail") {
    const v = k.value;
    return { ...d, host: v.host, port: v.port ? String(v.port) : "", security: MailSecurity[v.security || MailSecurity.STARTTLS].toLowerCase(), user: v.user, from: v.from, to: v.to };
  }
  if (k.case === "sms") {
    const p = k.value.provider;
    if (p.case === "twilio") return { ...d, to: k.value.to, account: p.value.account, from: p.value.from };
    if (p.case === "form") return { ...d, to: k.value.to, url: p.value.url, user: p.value.user, fields: Object.entries(p.value.fields).map(([n, v]) => `${n}=${v}`) };
  }
  if (k.case === "webhook") return { ...d, url: k.value.url, to: k.value.to };
  if (k.case === "mqtt") return { ...d, topic: k.value.topic };
  if (k.case === "logic") return { ...d, logic: k.value.logic, to: k.value.to, keyed: k.value.keyed };
  return d;
}

/** The notifier that the form says; what the form does not show stays as it was. */
export function write(d: Draft, old: Notifier | null): Notifier {
  const m = old ? clone(NotifierSchema, old) : create(NotifierSchema);
  m.state = undefined;
  const [first = create(WindowSchema), ...others] = m.quiet;
  m.quiet = d.quietFrom || d.quietTo ? [{ ...first, from: d.quietFrom, to: d.quietTo }, ...others] : [];
  m.kind = kindFrom(d, m.kind);
  return Object.assign(m, { id: full(d.id), title: d.title, subject: d.subject, body: d.body, zone: d.zone, limit: Number(d.limit) || 0, secret: d.secret });
}

function kindFrom(d: Draft, was: Notifier["kind"]): Notifier["kind"] {
  switch (d.kind) {
    case "mail": {
      const value = was.case === "mail" ? was.value : create(MailNotifierSchema);
      const security = MailSecurity[d.security.toUpperCase() as keyof typeof MailSecurity];
      return { case: "mail", value: Object.assign(value, { host: d.host, port: Number(d.port) || 0, user: d.user, from: d.from, to: d.to, security }) };
    }
    case "twilio": {
      const value = was.case === "sms" && was.value.provider.case === "twilio" ? was.value.provider.value : create(TwilioSmsSchema);
      const provider = { case: "twilio" as const, value: Object.assign(value, { account: d.account, from: d.from }) };
      return { case: "sms", value: Object.assign(create(SmsNotifierSchema), { to: d.to, provider }) };
    }
    case "form": {
      const value = was.case === "sms" && was.value.provider.case === "form" ? was.value.provider.value : create(FormSmsSchema);
      const fields = Object.fromEntries(d.fields.map((f) => [f.slice(0, f.indexOf("=")), f.slice(f.indexOf("=") + 1)]));
      const provider = { case: "form" as const, value: Object.assign(value, { url: d.url, user: d.user, fields }) };
      return { case: "sms", value: Object.assign(create(SmsNotifierSchema), { to: d.to, provider }) };
    }
    case "mqtt":
      return { case: "mqtt", value: Object.assign(was.case === "mqtt" ? was.value : create(MqttNotifierSchema, { qos: 1 }), { topic: d.topic }) };
    case "logic":
      return { case: "logic", value: create(LogicNotifierSchema, { logic: full(d.logic), to: d.to, keyed: d.keyed }) };
    case "log":
      return { case: "log", value: create(LogNotifierSchema) };
    default: {
      const value = was.case === "webhook" ? was.value : create(WebhookNotifierSchema);
      return { case: "webhook", value: Object.assign(value, { preset: presets[d.kind] ?? WebhookPreset.UNSPECIFIED, url: d.url, to: d.to }) };
    }
  }
}
