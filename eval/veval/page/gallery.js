// The gallery: choose a network and a class, filter, order, and show some more cards.
(() => {
  const cards = document.getElementById("cards");
  if (!cards) return;
  const STEP = 8;
  const all = [...cards.children];
  const choice = (name) => document.getElementById(`gallery-${name}`);
  const value = (name) => (choice(name) ? choice(name).value : "");
  const count = document.getElementById("gallery-count");
  const more = document.getElementById("more");
  let room = STEP;

  const rank = (card) => Number(card.dataset.rank) || Infinity;  // 0: no neighbour was right
  const orders = {
    worst: (a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)),
    best: (a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)),
    class: (a, b) => a.dataset.class.localeCompare(b.dataset.class) || orders.worst(a, b),
  };
  const filters = {
    all: () => true,
    right: (card) => "right" in card.dataset,
    wrong: (card) => !("right" in card.dataset),
    related: (card) => "related" in card.dataset,
  };

  function show() {
    const fits = (card) =>
      (!choice("which") || card.dataset.result === value("which")) &&
      (!value("class") || card.dataset.class === value("class")) &&
      filters[value("show")](card);
    const found = all.filter(fits).sort(orders[value("order")]);
    const shown = new Set(found.slice(0, room));
    cards.replaceChildren(...found, ...all.filter((card) => !found.includes(card)));
    for (const card of all) card.hidden = !shown.has(card);
    const right = found.filter(filters.right).length;
    const queries = found.length === 1 ? "1 query" : `${found.length} queries`;
    count.textContent = found.length
      ? `${queries}, ${right} with the nearest neighbour right; ${shown.size} on view.`
      : "No query fits this choice.";
    more.hidden = shown.size === found.length;
    more.textContent = `Show ${Math.min(2 * STEP, found.length - shown.size)} more`;
  }

  for (const name of ["which", "class", "show", "order"]) {
    if (choice(name)) choice(name).addEventListener("change", () => { room = STEP; show(); });
  }
  more.addEventListener("click", () => {
    const first = room;
    room += 2 * STEP;
    show();
    const next = [...cards.children].filter((card) => !card.hidden)[first];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  document.getElementById("gallery-controls").hidden = false;
  show();
})();
