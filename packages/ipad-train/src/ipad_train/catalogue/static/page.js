// The page of a catalogue. Everything that is asked for stands in the address, so that a link shows the same again.
const $ = (id) => document.getElementById(id);
const PAGE = 24;
let info = null;      // what /api/catalogue says
let ask = null;       // what is asked for: {photo, upload, weights, facets, where, rerank, attention, before}
let shown = [];       // photos in the grid
let turn = 0;         // answers of earlier questions are thrown away
let localPicture = null;  // of an upload of this visit: {upload, url}

const words = (name) => name.replaceAll("_", " ");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

async function api(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The service does not answer. Is it still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error || `The service answered ${answer.status}.`);
  return content;
}

// -- the address ---------------------------------------------------------------------------------------------------

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const weights = Object.fromEntries(Object.keys(info.attributes).map((name) => [name, 1]));
  if (given.has("w")) {
    for (const name of Object.keys(weights)) weights[name] = 0;
    for (const part of given.get("w").split(",")) {
      const [name, weight] = part.split(":");
      if (name in weights) weights[name] = Math.min(1, Math.max(0, Number(weight) || 0));
    }
  }
  const facets = {};
  for (const part of given.getAll("f")) {
    const [name, value] = [part.slice(0, part.indexOf(":")), part.slice(part.indexOf(":") + 1)];
    if (info.attributes[name]?.includes(value)) (facets[name] ??= []).push(value);
  }
  const attention = given.get("look") ?? "";
  const rerank = given.get("rerank") ?? "";
  return {
    photo: given.get("photo"), upload: given.get("upload"), weights, facets, where: given.get("where") ?? "",
    rerank: info.rerankers.includes(rerank) ? rerank : "", attention: attention in info.attributes ? attention : "",
    before: given.has("before"),
  };
}

function writeAddress(replace = false) {
  const given = new URLSearchParams();
  if (ask.photo) given.set("photo", ask.photo);
  if (ask.upload) given.set("upload", ask.upload);
  if (Object.values(ask.weights).some((weight) => weight !== 1)) {
    given.set("w", Object.entries(ask.weights).filter(([, w]) => w).map(([name, w]) => `${name}:${w}`).join(","));
  }
  for (const [name, values] of Object.entries(ask.facets)) for (const value of values) given.append("f", `${name}:${value}`);
  if (ask.where) given.set("where", ask.where);
  if (ask.rerank) given.set("rerank", ask.rerank);
  if (ask.attention) given.set("look", ask.attention);
  if (ask.before) given.set("before", "1");
  history[replace ? "replaceState" : "pushState"](null, "", `#${given}`);
}

function change(replace = false) {
  writeAddress(replace);
  show();
}

// -- asking ----------------------------------------------------------------------------------------------------------

async function show() {
  const mine = ++turn;
  $("error").textContent = $("where-error").textContent = "";
  $("grid").classList.add("old");
  drawControls();
  try {
    const isSearch = Boolean(ask.photo || ask.upload);
    const [answer, query] = await Promise.all(isSearch ? [search(), describeQuery()] : [list(0), null]);
    if (mine !== turn) return;
    shown = isSearch ? answer.hits : answer.photos;
    drawFacets(answer.facets);
    drawQuery(query);
    drawHeadline(isSearch, answer);
    drawGrid(isSearch);
    $("more").hidden = isSearch || shown.length >= answer.among;
  } catch (problem) {
    if (mine !== turn) return;
    const place = problem.message.includes("filter") ? "where-error" : "error";
    $(place).textContent = problem.message;
    $("status").textContent = "";
    if (place === "error") { shown = []; $("grid").replaceChildren(); $("headline").textContent = "Nothing to show"; }
  }
  if (mine === turn) $("grid").classList.remove("old");
}

const search = () => api("/api/search", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({
    photo: ask.photo, upload: ask.upload, weights: ask.weights, where: ask.where, facets: ask.facets,
    rerank: ask.rerank || null, limit: PAGE,
  }),
});

function list(offset) {
  const given = new URLSearchParams({ where: ask.where, offset, limit: PAGE });
  for (const [name, values] of Object.entries(ask.facets)) for (const value of values) given.append("facet", `${name}:${value}`);
  return api(`/api/photos?${given}`);
}

async function describeQuery() {
  if (ask.photo) return { ...(await api(`/api/photos/${encodeURIComponent(ask.photo)}`)), source: `/photos/${ask.photo}?size=320` };
  const known = localPicture?.upload === ask.upload ? localPicture : null;
  return { file: "your photo", values: known?.values ?? {}, source: known?.url ?? null };
}

async function give(file) {
  if (!file) return;
  $("error").textContent = "";
  if (file.size > info.max_upload) {
    $("error").textContent = `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; allowed are ${(info.max_upload / 1e6).toFixed(1)} MB.`;
    return;
  }
  $("status").textContent = `Reading ${file.name} …`;
  try {
    const answer = await api("/api/uploads", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
    if (localPicture) URL.revokeObjectURL(localPicture.url);
    localPicture = { upload: answer.upload, url: URL.createObjectURL(file), values: answer.values };
    ask.photo = null;
    ask.upload = answer.upload;
    change();
    showTop();
  } catch (problem) {
    $("error").textContent = problem.message;
    $("status").textContent = "";
  }
}

// -- drawing ---------------------------------------------------------------------------------------------------------

function framed(source, name, reference, box) {
  const frame = element("span", { class: "frame" });
  if (source) frame.append(element("img", { class: "photo", src: source, alt: name, loading: "lazy", onerror: (event) => event.target.replaceWith(element("span", { class: "help" }, "no longer there")) }));
  if (ask.attention && source) {
    const given = new URLSearchParams({ attribute: ask.attention, ...reference });
    frame.append(element("img", { class: "heat", src: `/api/attention?${given}`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }));
    if (box && (box[2] - box[0]) * (box[3] - box[1]) < 0.9) {
      const place = element("span", { class: "box" });
      [place.style.left, place.style.top] = [`${100 * box[0]}%`, `${100 * box[1]}%`];
      [place.style.width, place.style.height] = [`${100 * (box[2] - box[0])}%`, `${100 * (box[3] - box[1])}%`];
      frame.append(place);
    }
  }
  return frame;
}

function drawQuery(query) {
  $("query-picture").hidden = !query?.source;
  $("clear").hidden = !query;
  $("query-values").replaceChildren();
  if (!query) {
    $("query-text").textContent = "Drop a photo here, choose one, or click a product.";
    return;
  }
  const reference = ask.photo ? { photo: ask.photo } : { upload: ask.upload };
  $("query-picture").replaceChildren(framed(query.source, `Query: ${query.file}`, reference, null));
  const status = query.status && query.status !== "as indexed" ? ` (${query.status})` : "";
  $("query-text").textContent = query.source ? `${query.file}${status}` : "An upload; its picture is not kept here.";
  for (const [name, seen] of Object.entries(query.values)) {
    $("query-values").append(element("dt", {}, words(name)), element("dd", {}, `${words(seen.value)} ${Math.round(100 * seen.confidence)} %`));
  }
}

function drawHeadline(isSearch, answer) {
  const asked = Object.entries(ask.weights).filter(([, weight]) => weight);
  const all = asked.length === Object.keys(ask.weights).length;
  $("headline").textContent = isSearch
    ? `Most alike in ${all ? "all attributes" : asked.map(([name]) => words(name)).join(", ")}`
    : "All photos";
  const order = isSearch && ask.rerank ? ask.before ? ", as before re-ranking" : (answer.reranked ? `, re-ranked by ${nameOfReranker(ask.rerank)}`
      : ". The re-ranker left this order as it is: the photos are unlike those it was made for") : "";
  $("status").textContent = `${shown.length} of ${answer.among.toLocaleString("en")} photos${order}`;
}

function drawGrid(isSearch) {
  const ordered = isSearch && ask.before ? [...shown].sort((a, b) => a.rank_before - b.rank_before) : shown;
  $("grid").replaceChildren(...ordered.map((photo) => card(photo, isSearch)));
}

function card(photo, isSearch) {
  const asked = Object.keys(info.attributes).filter((name) => photo.values[name] && (!isSearch || ask.weights[name]));
  const values = asked.slice(0, 3).map((name) => {
    const seen = photo.values[name];
    return element("li", { title: `${words(name)}: ${words(seen.value)}` }, element("small", {}, words(name)),
      element("span", {}, words(seen.value), element("small", {}, ` ${Math.round(100 * seen.confidence)} %`)));
  });
  const columns = Object.entries(photo.columns).filter(([, cell]) => cell != null).slice(0, 3).map(([, cell]) => cell).join(" · ");
  const head = isSearch
    ? element("div", { class: "head" }, element("span", {}, `${ask.before ? photo.rank_before : photo.rank}.`, moved(photo)), element("b", { title: "similarity" }, photo.similarity.toFixed(3)))
    : null;
  const box = ask.attention ? photo.boxes?.[ask.attention] : null;
  return element("li", { class: "card" },
    element("button", { type: "button", "aria-label": `Find photos like ${photo.file}`, onclick: () => choose(photo.id) },
      element("span", { class: "picture" }, framed(`/photos/${photo.id}?size=320`, photo.file, { photo: photo.id }, box))),
    element("div", { class: "text" }, head, element("div", { class: "name", title: photo.file }, photo.file),
      columns ? element("div", {}, columns) : null, element("ul", {}, ...values)));
}

function moved(photo) {
  const by = photo.rank_before - photo.rank;
  if (!ask.rerank || ask.before || !by) return null;
  return element("span", { class: by > 0 ? "up" : "down" }, ` ${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`,
    element("span", { class: "skip" }, by > 0 ? " places up" : " places down"));
}

function choose(id) {
  ask.photo = id;
  ask.upload = null;
  change();
  showTop();
}

function showTop() {
  $("controls").scrollTop = 0;
  window.scrollTo({ top: 0 });
}

function onlyOne(name) {
  for (const each in ask.weights) ask.weights[each] = each === name ? 1 : 0;
  change();
}

const nameOfReranker = (name) => (name === "run" ? "the model's own" : words(name));

function drawControls() {
  for (const [name, weight] of Object.entries(ask.weights)) {
    $(`weight-${name}`).value = weight;
    $(`weight-${name}`).nextElementSibling.textContent = weight.toFixed(2);
  }
  $("rerank").value = ask.rerank;
  $("attention").value = ask.attention;
  $("where").value = ask.where;
  $("before").checked = ask.before;
  $("before-label").hidden = !ask.rerank;
  $("attention-help").hidden = !ask.attention;
}

function drawFacets(counts) {
  const focused = document.activeElement?.id;
  $("facets").replaceChildren(...Object.entries(counts).filter(([, values]) => Object.keys(values).length).map(([name, values]) =>
    element("fieldset", { class: "facet" }, element("legend", {}, words(name)),
      ...Object.entries(values).map(([value, count], place) => element("label", { class: count ? "" : "none" },
        element("input", {
          type: "checkbox", id: `facet-${name}-${place}`, checked: Boolean(ask.facets[name]?.includes(value)),
          onchange: (event) => toggle(name, value, event.target.checked),
        }), element("span", {}, words(value)), element("small", {}, count))))));
  if (focused?.startsWith("facet-")) $(focused)?.focus();
}

function toggle(name, value, on) {
  const chosen = (ask.facets[name] ?? []).filter((each) => each !== value);
  ask.facets[name] = on ? [...chosen, value] : chosen;
  change();
}

function drawSkeleton() {
  const counted = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
  $("count").textContent = `${counted(info.photos, "photo")}, ${counted(Object.keys(info.attributes).length, "attribute")}`;
  for (const name of Object.keys(info.attributes)) {
    const slider = element("input", { type: "range", id: `weight-${name}`, min: 0, max: 1, step: 0.05, value: 1 });
    const number = element("output", { for: slider.id }, "1.00");
    slider.addEventListener("input", () => { number.textContent = Number(slider.value).toFixed(2); });
    slider.addEventListener("change", () => { ask.weights[name] = Number(slider.value); change(); });
    const only = element("button", { type: "button", class: "only", "aria-label": `Only ${words(name)}`, onclick: () => onlyOne(name) }, "only");
    $("weights").append(element("div", { class: "weight" }, element("label", { for: slider.id }, words(name)), only, slider, number));
    $("attention").append(element("option", { value: name }, words(name)));
  }
  for (const name of info.rerankers) $("rerank").append(element("option", { value: name }, nameOfReranker(name)));
  $("attention").disabled = !info.has_attention;
  const columns = Object.entries(info.columns).map(([name, each]) => each.kind === "number"
    ? `${name} (${each.low ?? "-"} to ${each.high ?? "-"})` : `${name} (${each.texts.slice(0, 4).join(", ")}${each.texts.length > 4 ? ", …" : ""})`);
  $("where-help").textContent = columns.length ? `Columns: ${columns.join("; ")}` : "The photos have no table; attributes can be named here.";
  const first = Object.entries(info.columns).find(([, each]) => each.kind === "number");
  $("where").placeholder = first ? `${first[0]} < ${Math.round((first[1].low + first[1].high) / 2)}` : "file == 'name.jpg'";
}

function connect() {
  $("file").addEventListener("change", (event) => { give(event.target.files[0]); event.target.value = ""; });
  $("clear").addEventListener("click", () => { ask.photo = ask.upload = null; change(); $("file").focus(); });
  $("reset").addEventListener("click", () => { for (const name in ask.weights) ask.weights[name] = 1; change(); });
  $("no-filter").addEventListener("click", () => { ask.facets = {}; ask.where = ""; change(); });
  $("rerank").addEventListener("change", (event) => { ask.rerank = event.target.value; ask.before = false; change(); });
  $("attention").addEventListener("change", (event) => { ask.attention = event.target.value; change(); });
  $("before").addEventListener("change", (event) => { ask.before = event.target.checked; change(); });
  $("where").addEventListener("change", (event) => { ask.where = event.target.value.trim(); change(); });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("more").addEventListener("click", async () => {
    try {
      const answer = await list(shown.length);
      shown = [...shown, ...answer.photos];
      $("grid").append(...answer.photos.map((photo) => card(photo, false)));
      $("status").textContent = `${shown.length} of ${answer.among.toLocaleString("en")} photos`;
      $("more").hidden = shown.length >= answer.among;
    } catch (problem) { $("error").textContent = problem.message; }
  });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => give(event.dataTransfer.files[0]));
  window.addEventListener("popstate", () => { ask = readAddress(); show(); });
  $("skip").addEventListener("click", (event) => { event.preventDefault(); $("results").focus(); });  // the address stays
  $("home").addEventListener("click", (event) => { event.preventDefault(); history.pushState(null, "", "#"); ask = readAddress(); show(); });
  if (matchMedia("(max-width: 720px)").matches) for (const id of ["filter-box", "order-box", "weights-box"]) $(id).open = false;
}

try {
  info = await api("/api/catalogue");
  drawSkeleton();
  ask = readAddress();
  connect();
  await show();
} catch (problem) {
  $("error").textContent = problem.message;
}
