
"use strict";
(() => {
  // Sizes that come back are hits sooner or later; one in four is a size that nobody has asked for yet.
  const SIZES = [320, 400, 480, 560];
  const EVERY_MS = 4000, RETRY_MS = 3000, PAUSE_MS = 120, BANNER_MS = 8000, DECODE_MS = 1000;
  const find = (id) => document.getElementById(id);
  const cards = [...document.querySelectorAll(".card")];
  const sums = { asked: 0, kept: 0, retried: 0, failed: 0, makers: new Map() };
  let paused = false, bannerUntil = 0;

  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const show = (element, text) => { element.textContent = text; element.hidden = !text; };

  // Server-Timing: name;dur=1.2, name;desc="text" (W3C Server Timing; quoted strings as in RFC 9110).
  function timings(text) {
    const found = {};
    const metric = /([^\s;,="]+)((?:\s*;\s*[a-z]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)/gi;
    for (const [, name, rest] of (text || "").matchAll(metric)) {
      const one = found[name] = {};
      for (const [, key, quoted, plain] of rest.matchAll(/([a-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))/gi)) {
        one[key] = quoted === undefined ? plain : quoted.replace(/\\(.)/g, "$1");
      }
    }
    return found;
  }

  // What Cache-Status says (RFC 9211), in words.
  function origin(status) {
    if (!status) return ["", "of unknown origin"];
    if (/;\s*hit\b/.test(status)) {
      return ["kept", /detail=stale/.test(status) ? "render cache, being made anew" : "from the render cache"];
    }
    if (/detail=degraded/.test(status)) return ["made", "made now, cheaper"];
    if (/collapsed/.test(status)) return ["made", "made now, shared"];
    if (/fwd=stale/.test(status)) return ["made", "made anew"];
    return ["made", "made now"];
  }

  function say(text, bad) {
    const banner = find("banner");
    banner.className = bad ? "bad" : "";
    show(banner, text);
    bannerUntil = performance.now() + BANNER_MS;
    setTimeout(() => { if (performance.now() >= bannerUntil - 50) banner.hidden = true; }, BANNER_MS);
  }

  // One answer; what an address that moves costs is retried for a while, as any client of a cluster would.
  async function ask(url) {
    const begun = performance.now();
    for (let tries = 1; ; tries++) {
      let why;
      try {
        const answer = await fetch(url, { cache: "no-store" });
        if (answer.ok) return { answer, blob: await answer.blob(), tries, ms: performance.now() - begun };
        why = "status " + answer.status;
        if (answer.status !== 503) throw new Error(why);
      } catch (error) {
        why = error.message;
        if (!(error instanceof TypeError)) return { why, tries };
      }
      if (performance.now() - begun > RETRY_MS) return { why, tries };
      if (tries === 1) sums.retried++;
      say("A request had to be retried: the node that held the address, or the one that worked, went away.");
      await wait(PAUSE_MS);
    }
  }

  // Shown once it is decoded, so that nothing flickers.
  async function put(picture, blob) {
    const next = new Image(), old = picture.src;
    next.src = URL.createObjectURL(blob);
    await Promise.race([next.decode().catch(() => {}), wait(DECODE_MS)]);
    picture.src = next.src;
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  }

  async function tell(card, { answer, blob, tries, ms }, size) {
    const timing = timings(answer.headers.get("server-timing"));
    const desc = (name) => (timing[name] && timing[name].desc) || "";
    const [kind, words] = origin(answer.headers.get("cache-status"));
    const maker = desc("made"), through = desc("through");
    if (kind === "kept") sums.kept++;
    else if (maker) sums.makers.set(maker, (sums.makers.get(maker) || 0) + 1);
    count();
    await put(card.querySelector("img"), blob);
    const badge = card.querySelector(".badge");
    badge.textContent = words;
    badge.className = "badge " + kind;
    card.querySelector(".facts").hidden = false;
    card.querySelector(".took").textContent = ms.toFixed(ms < 10 ? 1 : 0) + " ms, " + size + " px";
    show(card.querySelector(".maker"), (maker ? "made by " + maker : "") + (through && through !== maker ? (maker ? ", through " : "through ") + through : ""));
    show(card.querySelector(".why"), desc("why") ? "why: " + desc("why") : "");
    if (tries > 1) say("A request had to be retried " + (tries === 2 ? "once" : tries - 1 + " times") + " and was answered after " + Math.round(ms) + " ms. Nothing failed.");
    card.classList.remove("fresh");
    void card.offsetWidth;
    card.classList.add("fresh");
  }

  function count() {
    find("asked").textContent = sums.asked;
    find("kept").textContent = Math.round((100 * sums.kept) / Math.max(1, sums.asked - sums.failed)) + " %";
    find("retried").textContent = sums.retried;
    find("failed").textContent = sums.failed;
    const makers = [...sums.makers].sort(([one], [other]) => (one < other ? -1 : 1));
    if (!makers.length) return;
    find("makers").replaceChildren(...makers.map(([name, times]) => {
      const part = document.createElement("span");
      part.textContent = name + " " + times;
      return part;
    }));
  }

  async function renew(card) {
    const size = Math.random() < 0.25 ? 240 + Math.floor(Math.random() * 400) : SIZES[Math.floor(Math.random() * SIZES.length)];
    const got = await ask(card.dataset.path.replaceAll("{size}", size));
    sums.asked++;
    if (got.answer) await tell(card, got, size);
    else {
      sums.failed++;
      const badge = card.querySelector(".badge");
      badge.textContent = "failed: " + got.why;
      badge.className = "badge bad";
      card.querySelector(".facts").hidden = false;
      say("A request failed: " + got.why + ".", true);
    }
    count();
  }

  async function keep(card, at) {
    await wait((EVERY_MS * at) / cards.length);
    for (;;) {
      if (!paused && document.visibilityState === "visible") await renew(card);
      await wait(EVERY_MS * (0.75 + Math.random() / 2));
    }
  }

  const pause = find("pause");
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    pause.textContent = paused ? "Go on" : "Pause";
  });
  for (const button of document.querySelectorAll(".copy")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
  find("sums").hidden = false;
  cards.forEach(keep);
})();
