// A headless Chromium, and a story told in steps: each stands on those before it.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test as run } from "node:test";

import { chromium } from "playwright-core";

import { patience, root } from "./node.mjs";

/** Opens Chromium with a profile in `dir`. `complaints` gathers what the page did wrong. */
export async function open(dir) {
  const browser = await chromium.launchPersistentContext(join(dir, "browser"), {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    timeout: patience * 1000,
    viewport: { width: 1280, height: 800 },
    colorScheme: "light",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
  const page = browser.pages()[0] ?? (await browser.newPage());
  const complaints = [];
  browser.setDefaultTimeout(patience * 1000);
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // A request that the node refuses, as it should, is no mistake of the page.
    if (message.type() === "error" && !/status of 40[01349]/.test(message.text())) complaints.push(message.text());
  });
  return { browser, page, complaints };
}

/**
 * Gives `test` for the steps of a story: the first that fails ends it, with a picture of the page. `now` gives what is there
 * to look at by then: `page`, `complaints`, and the `output` of the nodes.
 */
export function story(now) {
  let broken = "";
  return (name, body) =>
    run(name, async (t) => {
      if (broken) return t.skip(`after: ${broken}`);
      try {
        await body();
      } catch (error) {
        broken = name;
        const { page, complaints, output } = now();
        await mkdir(join(root, "build"), { recursive: true });
        await page?.screenshot({ path: join(root, "build/e2e-failure.png") }).catch(() => undefined);
        t.diagnostic(`${page?.url()}; picture: build/e2e-failure.png; the browser: ${complaints?.join("; ")}`);
        t.diagnostic(`the node: ${output?.slice(-4000)}`);
        throw error;
      }
    });
}

/** With PICTURES=1 a picture for the documentation; else nothing, so that a test leaves no file changed. */
export async function picture(page, name, settle = 300) {
  if (!process.env.PICTURES) return;
  const pictures = join(root, "docs/img");
  await mkdir(pictures, { recursive: true });
  // The picture is of the room, not of a message that passes.
  await page.waitForTimeout(settle);
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}
