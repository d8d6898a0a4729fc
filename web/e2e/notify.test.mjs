// Notifiers in the browser: one is made in the form, tested, and tells of an alarm's escalation; its receiver is stopped and started
// again, and the outbox shows what became of each message.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before } from "node:test";

import { picture, story } from "./browser.mjs";
import { house } from "./house.mjs";

let h, page, receiver;
const got = [];
let up = true;

const test = story(() => ({ page, complaints: h?.complaints, output: h?.node.output() }));

before(async () => {
  receiver = createServer((request, answer) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      if (up) got.push({ signature: request.headers["webhook-signature"], ...JSON.parse(Buffer.concat(parts).toString()) });
      answer.writeHead(up ? 200 : 503).end(up ? "taken" : "down");
    });
  });
  await new Promise((done) => receiver.listen(0, "127.0.0.1", done));
  h = await house();
  page = h.page;
});

after(async () => {
  await h?.close();
  receiver?.close();
});

const region = (name) => page.getByRole("region", { name, exact: true });
const outbox = () => region("Notifier default/desk").getByRole("table", { name: "Outbox" });

test("a notifier is made in the form; the node says what is wrong with it", async () => {
  await page.getByRole("navigation", { name: "Rooms", exact: true }).getByRole("link", { name: "Rules", exact: true }).click();
  await page.getByRole("navigation", { name: "Rooms beside Rules" }).getByRole("link", { name: "Notifiers" }).click();
  await page.getByRole("button", { name: "New notifier" }).click();
  const form = page.getByRole("form", { name: "Notifier" });
  await form.getByRole("combobox", { name: "Kind" }).selectOption("webhook");
  await form.getByRole("textbox", { name: "Name" }).fill("desk");
  await form.getByRole("textbox", { name: "Address" }).fill(`http://127.0.0.1:${receiver.address().port}/in`);
  await form.getByLabel("Secret").first().fill("sesame");
  await form.getByRole("textbox", { name: "Template of the subject" }).fill("[house] ${subjec}");
  await form.getByRole("button", { name: "Create" }).click();
  await page.getByRole("alert").filter({ hasText: "subjec" }).waitFor();
  await form.getByRole("textbox", { name: "Template of the subject" }).fill("[house] ${subject}");
  await form.getByRole("button", { name: "Create" }).click();
  await region("Notifier default/desk").waitFor();
  assert.match(await h.cli("notifier", "list"), /desk +webhook/);
});

test("what is on its way to topics and rules is shown, and that nothing stands still", async () => {
  await region("On their way").getByText(/^[\d,.]+ messages? to topics, rules and logics; none stands still\.$/).waitFor();
});

test("its test says what the receiver said", async () => {
  await region("Notifier default/desk").getByRole("button", { name: "Test" }).click();
  await page.getByRole("status").filter({ hasText: "acknowledged: taken" }).waitFor();
  assert.match(got[0].signature, /^v1,/);
  assert.match(got[0].subject, /^\[house\] Test of notifier/);
});

test("messages wait while the receiver is away, and go out when it is back", async () => {
  await h.cli("notifier", "update", "desk", "--retry-min", "100ms", "--retry-max", "200ms");
  up = false;
  await h.cli("notifier", "send", "desk", "--subject", "Lift", "--body", "out of order");
  await outbox().getByRole("row").filter({ hasText: "Lift" }).getByText("queued", { exact: true }).waitFor();
  await region("Notifier default/desk").getByRole("alert").filter({ hasText: "503" }).waitFor();
  up = true;
  await outbox().getByRole("row").filter({ hasText: "Lift" }).getByText("acknowledged", { exact: true }).waitFor();
  await picture(page, "notifiers");
  assert.match(await h.cli("notifier", "outbox", "desk"), /acknowledged .*Lift/);
  assert.equal(got.filter((m) => m.subject === "[house] Lift").length, 1);
});

test("it is changed, and its secret stays", async () => {
  await region("Notifier default/desk").getByRole("button", { name: "Edit" }).click();
  const form = page.getByRole("form", { name: "Notifier" });
  await form.getByRole("textbox", { name: "Title" }).fill("The desk");
  await form.getByRole("button", { name: "Save" }).click();
  await region("Notifier default/desk").getByRole("heading", { name: /The desk/ }).waitFor();
  const m = JSON.parse(await h.cli("notifier", "get", "desk", "-o", "json"));
  assert.equal(m.has_secret ?? m.hasSecret, true);
});
