// Keys of the review page. Streamlit's own shortcuts wait for the server, lose a key that comes too soon after another, and act on
// the clip of the answer before. Here the browser knows the clips of the page: every key names its clip, the mark moves at once, and
// the whole list of keys is sent each time, so that none is lost. The server takes those that it has not seen.
//
// data: {token, seen, jump, rows: [clip], verdicts: {clip: verdict}, mark: clip, plays}
// log:  {sent, entries: [{number, clip, verdict, mark} | {number, undo} | {number, page: -1 | 1} | {number, mark}]}

const VERDICTS = { y: "yes", n: "no", u: "unsure" };
const GONE_MS = 5000; // Streamlit takes the component away and brings it back whenever it has new data for it
const RETRY_MS = 3000;
const RETRIES = 10;
const TYPING = "input, textarea, select, [contenteditable=true], [role=combobox], [role=listbox], [role=slider]";
const COLOURS = { yes: "#2e9d5b", no: "#d1495b", unsure: "#b08900" };

function memory() {
  return (window.beatsJaxReview ??= { token: "", style: document.head.appendChild(document.createElement("style")) });
}

function tile(clip) {
  return document.querySelector(`.st-key-tile_${clip}`);
}

function sound(clip) {
  return tile(clip)?.querySelector("audio");
}

function draw(me) {
  const rules = Object.entries(me.verdicts).map(([clip, one]) => `.st-key-tile_${clip}{border-color:${COLOURS[one]} !important}`);
  rules.push(`.st-key-tile_${me.mark}{outline:3px solid #3d7eff;outline-offset:2px}`);
  me.style.textContent = rules.join("\n");
}

function move(me, clip) {
  me.mark = clip;
  draw(me);
  tile(clip)?.scrollIntoView({ block: "nearest" });
  document.querySelectorAll("audio").forEach((one) => one.pause());
  if (me.plays) sound(clip)?.play().catch(() => {}); // browsers refuse sound before the first click or key
}

function nextOpen(me) {
  const place = me.rows.indexOf(me.mark);
  const order = [...me.rows.slice(place + 1), ...me.rows.slice(0, place)];
  return order.find((clip) => !(clip in me.verdicts)) ?? me.mark;
}

function send(me, entry) {
  me.log = [...me.log, { number: ++me.number, ...entry }].slice(-500);
  deliver(me);
}

function deliver(me, tries = 0) {
  if (me.left) me.unsent = true; // what the old component sends is lost; the new one sends it
  else me.setStateValue("log", { entries: me.log, sent: ++me.sent });
  clearTimeout(me.timer);
  const again = () => me.number > me.seen && deliver(me, tries + 1); // a run that was cut short may have lost it
  if (tries < RETRIES) me.timer = setTimeout(again, RETRY_MS);
}

function onKey(me, event) {
  if (me.left && performance.now() - me.left > GONE_MS) return; // another page is shown
  if (event.target.closest?.(TYPING) || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const place = me.rows.indexOf(me.mark);
  if (key in VERDICTS) {
    if (place < 0 || me.waiting || me.seen < me.turning) return; // another page, or the clip that was taken back, is on its way
    const clip = me.mark;
    me.verdicts[clip] = VERDICTS[key];
    me.waiting = me.rows.every((one) => one in me.verdicts);
    move(me, nextOpen(me));
    send(me, { clip, verdict: VERDICTS[key], mark: me.mark });
  } else if (key === "z") {
    send(me, { undo: true });
    me.turning = me.number;
  } else if (key === "ArrowLeft" || key === "ArrowRight") {
    const to = me.rows[place + (key === "ArrowLeft" ? -1 : 1)];
    if (to === undefined) return;
    move(me, to);
    send(me, { mark: to });
  } else if (key === "PageUp" || key === "PageDown") {
    send(me, { page: key === "PageUp" ? -1 : 1 });
    me.turning = me.number;
  } else if (key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "AUDIO") {
    const one = sound(me.mark);
    if (one) one.paused ? one.play().catch(() => {}) : one.pause();
  } else {
    return;
  }
  event.preventDefault();
}

export default function (component) {
  const { data, setStateValue } = component;
  const me = memory();
  me.setStateValue = setStateValue;
  me.plays = data.plays;
  me.seen = data.seen;
  if (me.token !== data.token) {
    const fresh = { log: [], number: 0, sent: 0, turning: 0, unsent: false, rows: [], mark: data.mark, jump: -1 };
    Object.assign(me, { token: data.token, ...fresh });
  }
  const pending = me.log.filter((entry) => entry.number > data.seen && entry.clip !== undefined);
  me.verdicts = { ...data.verdicts, ...Object.fromEntries(pending.map((entry) => [entry.clip, entry.verdict])) };
  const turned = me.rows.join() !== data.rows.join();
  me.rows = data.rows;
  me.waiting = pending.length > 0 && me.rows.every((one) => one in me.verdicts);
  if (turned || me.jump !== data.jump || !me.rows.includes(me.mark)) {
    me.jump = data.jump;
    if (me.mark !== data.mark) move(me, data.mark);
  }
  draw(me);
  me.left = 0;
  if (!me.listener) {
    me.listener = (event) => onKey(me, event);
    document.addEventListener("keydown", me.listener);
  }
  if (me.unsent) {
    me.unsent = false;
    deliver(me);
  }
  const mount = (me.mount = {});
  return () => {
    if (me.mount === mount) me.left = performance.now();
  };
}
