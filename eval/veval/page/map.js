// The map: draw a box with the pointer, or move it by keys, and see the videos in it.
(() => {
  const area = document.getElementById("map-area");
  const data = page.data("map-data");
  if (!area || !data) return;
  const MOST = 24;
  const picture = area.querySelector("svg");
  const region = document.getElementById("region");
  const videos = document.getElementById("map-videos");
  const count = document.getElementById("map-count");
  const { width, height } = picture.viewBox.baseVal;
  const points = [...document.getElementById("points").children].map((element, number) => {
    const [key, label, film, split] = data.points[number];
    return { element, key, label, film, split, x: element.x.baseVal.value, y: element.y.baseVal.value };
  });
  const choice = (name) => document.getElementById(`map-${name}`);
  let box = null;

  // The points of the chosen class and split; the others are faint, and in no region.
  function chosen(point) {
    const label = choice("class").value;
    const split = choice("split") ? choice("split").value : "";
    return (!label || point.label === Number(label)) && (!split || point.split === split);
  }

  function inBox(point) {
    return box && point.x >= box.x && point.x <= box.x + box.width && point.y >= box.y && point.y <= box.y + box.height;
  }

  function show() {
    const filtered = choice("class").value || (choice("split") && choice("split").value);
    for (const point of points) {
      point.element.classList.toggle("faint", !chosen(point));
      point.element.classList.toggle("strong", Boolean(filtered) && chosen(point));
    }
    region.toggleAttribute("hidden", !box);
    if (box) for (const side of ["x", "y", "width", "height"]) region.setAttribute(side, box[side]);
    const found = box ? points.filter((point) => chosen(point) && inBox(point)) : [];
    count.textContent = box ? told(found) : "";
    videos.replaceChildren(...inTurns(found).slice(0, MOST).map(entry));
    page.films.watch(videos);
  }

  // How many videos the box has, and of which classes.
  function told(found) {
    const sums = new Map();
    for (const point of found) sums.set(point.label, (sums.get(point.label) || 0) + 1);
    const sorted = [...sums].sort((a, b) => b[1] - a[1]);
    const words = sorted.slice(0, 4).map(([label, sum]) => `${sum} ${data.classes[label]}`);
    if (sorted.length > 4) words.push(sorted.length === 5 ? "1 further class" : `${sorted.length - 4} further classes`);
    const shown = found.length > MOST ? `; ${MOST} are on view` : "";
    const some = found.length === 1 ? "1 video" : `${found.length} videos`;
    return found.length ? `${some} in the box: ${words.join(", ")}${shown}.` : "No video in the box.";
  }

  // Those with a picture first, and of them one of each class in turn.
  function inTurns(found) {
    const turns = new Map();
    const rank = new Map();
    for (const point of found) {
      rank.set(point, (turns.get(point.label) || 0) + (point.film < 0 ? points.length : 0));
      turns.set(point.label, (turns.get(point.label) || 0) + 1);
    }
    return [...found].sort((a, b) => rank.get(a) - rank.get(b) || a.label - b.label);
  }

  function entry(point) {
    const item = page.make("li", "", { "data-plays": "" });
    if (point.film >= 0) {
      const size = { width: 128, height: 96, class: "film" };
      item.append(page.make("img", "", { "data-film": point.film, alt: point.key, ...size }));
    } else {
      item.append(page.make("div", "no picture", { class: "no-film" }));
    }
    item.append(page.make("p", data.classes[point.label], { class: "mark" }), page.make("p", point.key, { class: "key" }));
    item.addEventListener("mouseenter", () => point.element.classList.add("found"));
    item.addEventListener("mouseleave", () => point.element.classList.remove("found"));
    return item;
  }

  // The place of a pointer in the picture's own units.
  function place(event) {
    const frame = picture.getBoundingClientRect();
    const clamp = (value, most) => Math.min(most, Math.max(0, value));
    return {
      x: clamp((event.clientX - frame.left) / frame.width * width, width),
      y: clamp((event.clientY - frame.top) / frame.height * height, height),
    };
  }

  let from = null;
  picture.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = place(event);
    picture.setPointerCapture(event.pointerId);
    event.preventDefault();
    area.focus({ preventScroll: true });
  });
  picture.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = place(event);
    box = {
      x: Math.min(from.x, to.x), y: Math.min(from.y, to.y),
      width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y),
    };
    show();
  });
  picture.addEventListener("pointerup", (event) => {
    if (from && (!box || box.width + box.height < 8)) around(place(event), 30);  // a click without a drag
    from = null;
    show();
  });
  picture.addEventListener("pointercancel", () => { from = null; });

  function around({ x, y }, half) {
    box = { x: x - half, y: y - half, width: 2 * half, height: 2 * half };
  }

  // Put the box around the point in the middle of the chosen ones, unless it holds some: so one sees what a box does.
  function look() {
    const some = points.filter(chosen);
    if (!some.length || some.some(inBox)) return;
    const middle = (side) => some.map((point) => point[side]).sort((a, b) => a - b)[some.length >> 1];
    const [x, y] = [middle("x"), middle("y")];
    const distance = (point) => Math.hypot(point.x - x, point.y - y);
    around(some.reduce((a, b) => (distance(b) < distance(a) ? b : a)), 2 * STEP);
  }

  const STEP = 20;
  const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
  const sizes = { "+": STEP, "=": STEP, "-": -STEP, "−": -STEP };
  area.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      box = null;
    } else if (event.key in moves || event.key in sizes) {
      if (!box) around({ x: width / 2, y: height / 2 }, 4 * STEP);
      const [right, down] = moves[event.key] || [0, 0];
      const more = Math.max(sizes[event.key] || 0, STEP - box.width, STEP - box.height);
      const grows = event.key in sizes ? more : 0;
      box = { x: box.x + right - grows / 2, y: box.y + down - grows / 2, width: box.width + grows, height: box.height + grows };
      box.x = Math.min(width - STEP, Math.max(STEP - box.width, box.x));
      box.y = Math.min(height - STEP, Math.max(STEP - box.height, box.y));
    } else {
      return;
    }
    event.preventDefault();
    show();
  });

  area.tabIndex = 0;
  area.setAttribute("role", "group");
  area.setAttribute("aria-label", "Map of features; the arrow keys move a box over it");
  area.setAttribute("aria-describedby", "map-help");
  for (const name of ["class", "split"]) if (choice(name)) choice(name).addEventListener("change", () => { look(); show(); });
  document.getElementById("map-controls").hidden = false;
  look();
  show();
})();
