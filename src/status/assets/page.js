// SPDX-License-Identifier: Apache-2.0
// What the page can do with script: local times, live parts, "live / paused / stale". Without it everything is there, still.
(() => {
  const { live: isLive } = document.body.dataset;
  const time = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

  /** Times in the zone of whoever reads; the attribute keeps UTC. */
  function localise(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const at = new Date(element.dateTime);
      const near = new Date().toDateString() === at.toDateString();
      if (element.dataset.ago === undefined) element.textContent = (near ? today : time).format(at);
      element.title = element.dateTime.slice(0, 19).replace("T", " ") + " UTC";
    }
  }
  localise(document);

  const menu = document.querySelector(".nav details");
  if (menu) menu.addEventListener("keydown", (event) => event.key === "Escape" && menu.removeAttribute("open"));

  // Two minutes before a login ends by itself, whoever is there is asked (WCAG 2.2.1).
  const idleMs = Number(document.body.dataset.idle);
  const warnMs = 120000;
  function warnLater() {
    setTimeout(() => {
      const note = document.createElement("div");
      note.className = "stay";
      note.setAttribute("role", "alert");
      const stay = document.createElement("button");
      stay.type = "button";
      stay.textContent = "Stay";
      note.append("You will be logged out in two minutes. ", stay);
      stay.addEventListener("click", async () => {
        await fetch("/help");
        note.remove();
        warnLater();
      });
      document.body.append(note);
    }, Math.max(0, idleMs - warnMs));
  }
  if (idleMs > warnMs / 2) warnLater();

  // An update from a file: in slices, each asked for again where the connection was lost.
  const sliceBytes = 512 * 1024;
  const triesMax = 8;
  const bring = document.getElementById("bring");
  const bringText = document.getElementById("bring-text");
  async function send(path, body, headers) {
    for (let tries = 1; ; tries += 1) {
      try {
        const answer = await fetch(path, { method: "POST", body, headers });
        if (answer.ok) return await answer.json();
        if (answer.status !== 429 || tries === triesMax) throw new RangeError((await answer.json()).detail);
      } catch (error) {
        if (error instanceof RangeError || tries === triesMax) throw error;
      }
      await new Promise((later) => setTimeout(later, 1000));
    }
  }
  async function bringFile() {
    const form = new URLSearchParams(new FormData(bring));
    const file = document.getElementById("file").files[0];
    form.set("size", file.size);
    const { id } = await send("/actions/update", form);
    const headers = { "x-csrf-token": form.get("csrf"), "content-type": "application/octet-stream" };
    for (let at = 0; at < file.size; ) {
      bringText.textContent = "Brought " + Math.floor((at / file.size) * 100) + " %: keep this page open.";
      const path = "/actions/update/slice?id=" + id + "&offset=" + at;
      at = (await send(path, file.slice(at, at + sliceBytes), headers)).have;
    }
    form.set("id", id);
    await send("/actions/update/end", form);
    location.href = "/actions";
  }
  if (bring)
    bring.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = bring.querySelector("button");
      button.disabled = true;
      try {
        await bringFile();
      } catch (error) {
        bringText.textContent = error.message;
        button.disabled = false;
      }
    });

  if (isLive !== "yes" || !window.EventSource) return;
  const box = document.getElementById("live");
  const text = document.getElementById("live-text");
  const button = document.getElementById("live-button");
  const staleMs = 30000;
  const refreshMs = 1000;
  let source = null;
  let paused = false;
  let heardAt = Date.now();
  let wanted = false;
  let busy = false;
  box.hidden = false;

  function say(state, words) {
    if (text.textContent === words) return;
    box.dataset.state = state;
    text.textContent = words;
  }

  /** The same page again, and only the parts that differ are put in; focus and open details stay. */
  async function refresh() {
    if (busy || paused || document.hidden) {
      wanted = true;
      return;
    }
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.href, { headers: { "x-part": "1" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) return ended();
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The stream says "stale" by itself.
    }
    setTimeout(() => {
      busy = false;
      if (wanted) refresh();
    }, refreshMs);
  }

  function put(fresh) {
    document.title = fresh.title;
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.querySelector('[data-part="' + part.dataset.part + '"]');
      if (!other || other.innerHTML === part.dataset.seen) continue;
      part.dataset.seen = other.innerHTML;
      if (part.contains(document.activeElement) && document.activeElement !== document.body) continue;
      const open = [...part.querySelectorAll("details")].map((each) => each.open);
      localise(other);
      part.className = other.className;
      part.replaceChildren(...other.childNodes);
      part.querySelectorAll("details").forEach((each, index) => {
        each.open = open[index] || false;
      });
    }
  }

  function ended() {
    close();
    say("stale", "logged out");
    button.hidden = true;
    const link = document.createElement("a");
    link.href = "/login";
    link.textContent = "Log in";
    box.append(" ", link);
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  function open() {
    close();
    source = new EventSource("/api/v1/stream");
    const heard = () => {
      heardAt = Date.now();
      say("live", "live");
    };
    source.onopen = heard;
    source.addEventListener("snapshot", () => (heard(), refresh()));
    source.addEventListener("state", () => (heard(), refresh()));
    source.addEventListener("ended", ended);
    source.onerror = () => {
      say("stale", "no answer since " + clock.format(heardAt) + ", trying again");
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        setTimeout(() => !paused && !document.hidden && !source && open(), 3000);
      }
    };
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    if (paused) {
      close();
      say("paused", "paused");
    } else {
      open();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    if (document.hidden) close();
    else open();
  });
  setInterval(() => {
    if (!source || paused || Date.now() - heardAt < staleMs) return;
    if (source.readyState === EventSource.OPEN && Date.now() - heardAt < staleMs * 2) return;
    say("stale", "stale since " + clock.format(heardAt));
  }, 5000);
  // Durations and figures move by themselves.
  setInterval(() => source && refresh(), Number(document.body.dataset.every) || 15000);
  open();
})();
