// Brings messages of a notifier to a channel of Discord by its webhook, or of anything that speaks alike:
//
//   pollux logic push deploy/examples/logic/discord.js --setting webhook=https://discord.com/api/webhooks/ID/TOKEN
//   pollux notifier create discord --logic discord
export default logic({
  name: 'discord', version: '1.0.0', title: 'Discord',
  settings: {
    webhook: { type: 'string', title: 'Address of the webhook', writeOnly: true, minLength: 1 },
    name: { type: 'string', title: 'Who speaks', default: 'Pollux' },
  },
  http: { hosts: ['{webhook}'] },
  async run(message, context) {
    const { settings } = context;
    const color = { critical: 0xc62828, error: 0xe53935, warning: 0xf9a825 }[message.severity] ?? 0x607d8b;
    const notes = (message.attachments ?? []).filter((a) => a.text).map((a) => ({ name: a.name.slice(0, 256), value: a.text.slice(0, 1000) }));
    const answer = await context.fetch(`${settings.webhook}?wait=true`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': message.key },
      body: {
        username: settings.name,
        content: message.to?.length ? message.to.map((id) => `<@${id}>`).join(' ') : undefined,
        embeds: [{ title: message.subject.slice(0, 256), description: message.body.slice(0, 4000), color, timestamp: message.time, fields: notes.slice(0, 25) }],
      },
    });
    if (answer.status === 429) throw new Refusal('it is asked too often', { after: Number(answer.headers['retry-after'] ?? 5) * 1000 });
    if (answer.status >= 500) throw new Refusal(`it answers ${answer.status}`, { retryable: true });
    if (!answer.ok) throw new Refusal(`it answers ${answer.status}: ${answer.text().slice(0, 200)}`); // for good
    return context.replace({ receipt: answer.json().id });
  },
});
