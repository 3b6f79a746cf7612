"use strict";
// One script for the served page and for the page in one file. They differ in where photos come from: the server, or
// the data in the page.
(() => {
  const PAGE = 60; // photos of the grid at a time
  const at = (id) => document.getElementById(id);
  const embedded = at("data");

  function fromServer() {
    const ask = async (path, values, options) => {
      const query = new URLSearchParams(values);
      let response;
      try {
        response = await fetch(`/api/${path}?${query}`, options);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Error("The server does not answer. Is guie search --serve still running?");
      }
      const answer = await response.json().catch(() => ({ error: `The server answers ${response.status}.` }));
      if (!response.ok) throw new Error(answer.error);
      return answer;
    };
    return {
      about: () => ask("index", {}),
      photos: (folder, start, signal) => ask("photos", { folder, start, n: PAGE }, { signal }),
      near: (id, folder, signal) => ask("near", { id, folder }, { signal }),
      search: (file, folder, signal) => ask("near", { folder }, {
        method: "POST", body: file, signal, headers: { "Content-Type": "application/octet-stream" },
      }),
      small: (photo) => `/thumb/${photo.id}`,
      large: (photo) => `/photo/${photo.id}`,
      hasNear: () => true,
    };
  }

  function fromPage(data) {
    const photos = new Map(data.photos.map((photo) => [photo.id, photo]));
    const isIn = (photo, folder) => !folder || photo.path.startsWith(`${folder}/`);
    return {
      about: async () => data.about,
      photos: async (folder, start) => {
        const found = data.shown.map((id) => photos.get(id)).filter((photo) => isIn(photo, folder));
        return { photos: found.slice(start, start + PAGE), total: found.length };
      },
      near: async (id, folder) => {
        if (!photos.has(id)) throw new Error("This photo is not on the page.");
        const found = (data.near[id] || []).map(([other, cosine]) => ({ ...photos.get(other), cosine }));
        return { query: photos.get(id), photos: found.filter((photo) => isIn(photo, folder)) };
      },
      small: (photo) => `data:image/jpeg;base64,${data.thumbs[photo.id]}`,
      large: (photo) => `data:image/jpeg;base64,${data.thumbs[photo.id]}`,
      hasNear: (photo) => photo.id in data.near,
    };
  }

  const source = embedded ? fromPage(JSON.parse(embedded.textContent)) : fromServer();
  let about = null;
  let uploaded = null; // the file that was chosen, dropped or pasted
  let preview = "";
  let running = null; // the request that the page waits for
  let shown = []; // photos in the grid
  let query = null;
  let ofGrid; // the generation of the index that the grid is of

  // Where the reader is stands in the address, so that Back and links work.
  const place = () => {
    const values = new URLSearchParams(location.hash.slice(1));
    return { folder: values.get("folder") || "", near: values.get("near") || "", upload: values.has("upload") };
  };
  function go(to, replaces) {
    const values = new URLSearchParams();
    if (to.folder) values.set("folder", to.folder);
    if (to.near) values.set("near", to.near);
    if (to.upload) values.set("upload", "");
    const hash = `#${values}`;
    if (replaces || hash === (location.hash || "#")) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    return show();
  }

  const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
  const folderOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

  function card(photo) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "card";
    button.dataset.id = photo.id;
    button.title = photo.path;
    if (!source.hasNear(photo)) button.setAttribute("aria-disabled", "true");
    const image = document.createElement("img");
    image.loading = "lazy";
    image.alt = "";
    image.src = source.small(photo);
    button.append(image);
    const line = (text, kind) => {
      if (!text) return;
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = text;
      button.append(span);
    };
    line(photo.cosine === undefined ? "" : photo.cosine.toFixed(3), "score");
    line(nameOf(photo.path), "name");
    line(photo.label || folderOf(photo.path), "folder");
    item.append(button);
    return item;
  }

  function fill(photos, isMore) {
    const hadFocus = at("grid").contains(document.activeElement);
    if (!isMore) at("grid").replaceChildren();
    at("grid").append(...photos.map(card));
    shown = isMore ? [...shown, ...photos] : photos;
    if (hadFocus && !isMore) focusCard(0);
  }

  function complain(text) {
    at("problem").textContent = text;
    at("problem").hidden = !text;
  }

  function showQuery(name, facts, image, photo) {
    query = photo;
    at("query").hidden = false;
    at("query-name").textContent = name;
    at("query-facts").textContent = facts;
    at("query-image").src = image;
    at("enlarge").hidden = false;
  }

  async function show() {
    if (running) running.abort();
    const mine = running = new AbortController();
    const where = place();
    at("folder").value = where.folder;
    at("status").textContent = "…";
    try {
      if (where.upload && uploaded) await showUpload(where, mine.signal);
      else if (where.near) await showNear(where, mine.signal);
      else await showAll(where, mine.signal);
      if (mine === running) complain(about.problem || "");
    } catch (error) {
      if (error.name === "AbortError" || mine !== running) return;
      at("status").textContent = "";
      at("more").hidden = true;
      fill([]);
      complain(where.upload && uploaded ? `${uploaded.name || "The pasted photo"}: ${error.message}` : error.message);
    }
  }

  const inFolder = (folder) => (folder ? ` in ${folder}` : "");
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

  async function showAll(where, signal) {
    const answer = await source.photos(where.folder, 0, signal);
    if (signal.aborted) return;
    await keepUp(answer);
    query = null;
    at("query").hidden = true;
    fill(answer.photos);
    ofGrid = answer.generation;
    at("status").textContent = count(answer.total, "photo") + inFolder(where.folder);
    at("more").hidden = shown.length >= answer.total;
  }

  async function showNear(where, signal) {
    const answer = await source.near(where.near, where.folder, signal);
    if (signal.aborted) return;
    await keepUp(answer);
    const path = answer.query.path;
    showQuery(nameOf(path), answer.query.label || folderOf(path), source.small(answer.query), answer.query);
    showNeighbours(answer, where);
  }

  async function showUpload(where, signal) {
    showQuery(uploaded.name || "Pasted photo", "", preview, null);
    const answer = await source.search(uploaded, where.folder, signal);
    if (signal.aborted) return;
    await keepUp(answer);
    const own = answer.own.map((photo) => photo.path).join(", ");
    at("query-facts").textContent = own ? `in the index as ${own}; left out below` : "";
    showNeighbours(answer, where);
  }

  function showNeighbours(answer, where) {
    fill(answer.photos);
    at("more").hidden = true;
    at("status").textContent = `the ${count(answer.photos.length, "photo")} most alike${inFolder(where.folder)}`;
  }

  async function more() {
    const mine = running;
    const first = shown.length;
    let answer;
    try {
      answer = await source.photos(place().folder, first, mine.signal);
    } catch (error) {
      if (error.name !== "AbortError" && mine === running) complain(error.message);
      return undefined;
    }
    if (mine !== running || first !== shown.length) return undefined; // the reader has gone on, or pressed twice
    if (answer.generation !== ofGrid) return show(); // the index was replaced: this part does not follow the others
    fill(answer.photos, true);
    at("more").hidden = shown.length >= answer.total;
    return focusCard(first);
  }

  // An answer of another generation: the index was replaced, so counts and folders have changed.
  async function keepUp(answer) {
    if (answer.generation !== undefined && answer.generation !== about.generation) await readAbout();
  }

  async function readAbout() {
    about = await source.about();
    at("facts").textContent = about.facts;
    const option = (value, text) => {
      const made = document.createElement("option");
      made.value = value;
      made.textContent = text;
      return made;
    };
    const folders = about.folders.map(([name, n]) => option(name, `${name} (${n.toLocaleString("en")})`));
    at("folder").replaceChildren(option("", "all"), ...folders);
    at("folder").value = place().folder;
    at("folder").parentElement.hidden = !folders.length;
  }

  function use(file) {
    if (!file) return complain("There is no photo in what was dropped or pasted.");
    uploaded = file;
    if (preview) URL.revokeObjectURL(preview);
    preview = URL.createObjectURL(file);
    return go({ folder: place().folder, upload: true });
  }

  function focusCard(i) {
    const cards = at("grid").querySelectorAll(".card");
    const wanted = cards[Math.max(0, Math.min(i, cards.length - 1))];
    if (wanted) wanted.focus();
  }

  function columns() {
    const cards = [...at("grid").querySelectorAll(".card")];
    const top = cards[0].offsetTop;
    const next = cards.findIndex((other) => other.offsetTop > top);
    return next < 0 ? cards.length : next;
  }

  function enlarge(image, text) {
    const dialog = at("large");
    dialog.querySelector("img").src = image;
    dialog.querySelector("p").textContent = text;
    dialog.showModal();
  }

  function onKey(event) {
    if (at("large").open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      const where = place();
      if (where.near || where.upload) go({ folder: where.folder });
      return;
    }
    const current = document.activeElement.closest(".card");
    const cards = [...at("grid").querySelectorAll(".card")];
    if (event.key === " " && current) {
      event.preventDefault();
      const photo = shown[cards.indexOf(current)];
      enlarge(source.large(photo), photo.path);
      return;
    }
    const steps = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: columns, ArrowUp: () => -columns() };
    if (!(event.key in steps) || !cards.length || document.activeElement.matches("select, input")) return;
    event.preventDefault();
    if (!current) return focusCard(0);
    const wanted = cards.indexOf(current) + steps[event.key]();
    if (wanted >= 0 && wanted < cards.length) focusCard(wanted);
  }

  at("grid").addEventListener("click", (event) => {
    const chosen = event.target.closest(".card");
    if (chosen && chosen.getAttribute("aria-disabled") !== "true") {
      go({ folder: place().folder, near: chosen.dataset.id }).then(() => window.scrollTo(0, 0));
    }
  });
  at("grid").addEventListener("error", (event) => { // a photo that has changed since it was indexed, or is gone
    event.target.alt = "no picture: it has changed since it was indexed, or is gone";
  }, true);
  at("folder").addEventListener("change", () => go({ ...place(), folder: at("folder").value }));
  at("close").addEventListener("click", () => go({ folder: place().folder }));
  at("more").addEventListener("click", more);
  at("query-image").addEventListener("error", () => { at("enlarge").hidden = true; }); // e.g. HEIC
  at("enlarge").addEventListener("click", () => {
    enlarge(query ? source.large(query) : preview, query ? query.path : at("query-name").textContent);
  });
  at("large").querySelector("button").addEventListener("click", () => at("large").close());
  at("large").addEventListener("click", (event) => { if (event.target === at("large")) at("large").close(); });
  document.addEventListener("keydown", onKey);
  window.addEventListener("popstate", show);
  if (!embedded) {
    at("file").addEventListener("change", () => { if (at("file").files.length) use(at("file").files[0]); });
    at("ask").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("paste", (event) => { if (event.clipboardData) use(event.clipboardData.files[0]); });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      use(event.dataTransfer.files[0]);
    });
  }
  readAbout().then(show, (error) => complain(error.message));
})();
