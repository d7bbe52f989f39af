"use strict";
// Draws the charts of a report from the JSON in the page: curves, zoom, and what is read under the pointer.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const EDGE = { left: 52, right: 14, top: 12, bottom: 40 };
  const CLOSEST = 12; // pixels: a narrower drag is a click
  const MOST_LINES = 12; // of a read-out

  // One quantity to draw along: its name, where a run's points lie, and how a place is told.
  const axes = {
    tokens: { name: "tokens", along: (curve) => curve.tokens, told: (x) => `${amount(x)} tokens` },
    flops: {
      name: "compute (FLOP)",
      along: (curve) => curve.tokens.map((tokens) => tokens * data.runs[curve.run].flops),
      told: (x) => `${amount(x)} FLOP`,
    },
    seconds: { name: "training time", along: (curve) => curve.seconds, told: (x) => `after ${duration(x)}` },
  };
  const shown = { axis: axes.tokens, kinds: new Set(["raw", "smooth", "valid"]), hidden: new Set() };

  function amount(value) {
    const prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"];
    let power = 0;
    while (Math.abs(value) >= 1000 && power + 1 < prefixes.length) { value /= 1000; power += 1; }
    return `${Number(value.toPrecision(4))}${power ? ` ${prefixes[power]}` : ""}`;
  }

  function unit(seconds) {
    if (seconds < 120) return [1, "s"];
    if (seconds < 7200) return [60, "min"];
    return seconds < 172800 ? [3600, "h"] : [86400, "days"];
  }

  function duration(seconds) {
    const [size, name] = unit(seconds);
    return `${Number((seconds / size).toPrecision(3))} ${name}`;
  }

  const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 4 });

  // Round numbers from low to high, about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((times) => times * power >= rough) * power;
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) found.push(n * step || 0); // never -0
    return found;
  }

  // The same on a logarithmic scale; low and high are logarithms to the base 10.
  function powers(low, high, count) {
    const times = 3 * (high - low) > 2 * count ? [1] : [1, 2, 5];
    const found = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const n of times) found.push(Math.log10(n) + power);
    }
    const inside = found.filter((tick) => tick >= low && tick <= high);
    return inside.length > 1 ? inside : [low, high];
  }

  function make(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  // The index of the point closest to x; xs rise.
  function closest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return x - xs[low] <= xs[high] - x ? low : high;
  }

  class Chart {
    constructor(figure, number) {
      this.chart = data.charts[number];
      this.number = number;
      this.range = null; // of x that is shown; null = all
      this.cursor = null;
      const head = document.createElement("div");
      head.className = "head";
      const caption = figure.querySelector("figcaption");
      figure.prepend(head);
      head.append(caption, this.buttons());
      this.area = document.createElement("div");
      this.area.className = "area";
      this.area.tabIndex = 0;
      this.area.setAttribute("role", "group");
      this.area.setAttribute(
        "aria-label", `Chart of ${this.chart.title}: arrow keys read values, plus and minus zoom, 0 shows all`);
      this.readout = document.createElement("output");
      this.readout.className = "readout";
      this.svg = document.createElementNS(SVG, "svg");
      this.svg.setAttribute("class", "plot");
      this.svg.setAttribute("role", "img");
      this.area.append(this.svg, this.readout);
      figure.append(this.area);
      this.listen();
    }

    buttons() {
      const group = document.createElement("div");
      group.className = "zoom";
      const actions = [["−", "Zoom out", () => this.zoom(2)], ["+", "Zoom in", () => this.zoom(0.5)],
        ["All", "Show all", () => this.reset()]];
      for (const [sign, name, act] of actions) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = sign;
        button.title = name;
        button.setAttribute("aria-label", `${name}: ${this.chart.title}`);
        button.addEventListener("click", act);
        group.append(button);
      }
      return group;
    }

    listen() {
      let from = null;
      const place = (event) => Math.min(Math.max(event.clientX - this.svg.getBoundingClientRect().left, EDGE.left), this.right);
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        from = place(event);
        this.svg.setPointerCapture(event.pointerId);
      });
      this.svg.addEventListener("pointermove", (event) => {
        this.cursor = this.value(place(event));
        this.drawCursor(from === null ? null : [from, place(event)]);
      });
      this.svg.addEventListener("pointerup", (event) => {
        const ends = from === null ? [0, 0] : [from, place(event)].sort((a, b) => a - b);
        from = null;
        if (ends[1] - ends[0] >= CLOSEST) this.show(this.value(ends[0]), this.value(ends[1]));
        else this.drawCursor(null);
      });
      this.svg.addEventListener("pointercancel", () => { from = null; this.leave(); });
      this.svg.addEventListener("pointerleave", () => { if (from === null) this.leave(); });
      this.svg.addEventListener("dblclick", () => this.reset());
      this.area.addEventListener("keydown", (event) => this.key(event));
      this.area.addEventListener("blur", () => this.leave());
    }

    key(event) {
      const [low, high] = this.span, step = (high - low) / 40;
      const acts = {
        ArrowLeft: () => this.move(-step), ArrowRight: () => this.move(step),
        "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        0: () => this.reset(), Escape: () => this.reset(),
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in acts)) return;
      event.preventDefault();
      acts[event.key]();
    }

    move(by) {
      const [low, high] = this.span;
      const [first, last] = this.whole;
      this.cursor = Math.min(Math.max((this.cursor ?? low) + by, first), last);
      if (this.cursor < low || this.cursor > high) { // the window follows
        this.range = this.cursor < low ? [this.cursor, this.cursor + high - low] : [this.cursor - high + low, this.cursor];
        this.draw();
      }
      this.drawCursor(null);
    }

    leave() { this.cursor = null; this.drawCursor(null); }

    reset() { this.range = null; this.draw(); }

    zoom(by) {
      const [low, high] = this.span, middle = this.cursor ?? (low + high) / 2;
      this.show(middle - (middle - low) * by, middle + (high - middle) * by);
    }

    show(low, high) {
      const [first, last] = this.whole;
      low = Math.max(low, first);
      high = Math.min(high, last);
      if (high - low < (last - first) * 1e-4) return;
      this.range = low <= first && high >= last ? null : [low, high];
      this.draw();
    }

    value(pixel) {
      const [low, high] = this.span;
      return low + ((pixel - EDGE.left) / (this.right - EDGE.left)) * (high - low);
    }

    // What is drawn now: curves with their x on the chosen axis.
    visible() {
      return this.chart.curves
        .filter((curve) => shown.kinds.has(curve.kind) && !shown.hidden.has(data.runs[curve.run].group))
        .map((curve) => ({ ...curve, xs: shown.axis.along(curve) }));
    }

    // The lowest and the highest y in sight; where all is shown, the baselines too.
    heights() {
      const [low, high] = this.span, y = this.scale;
      let least = Infinity, most = -Infinity;
      const see = (value) => { least = Math.min(least, y(value)); most = Math.max(most, y(value)); };
      for (const curve of this.curves) {
        const before = closest(curve.xs, low), after = closest(curve.xs, high);
        curve.values.slice(Math.max(before - 1, 0), after + 2).forEach(see);
      }
      if (this.range === null) this.chart.baselines.forEach(([, value]) => see(value));
      if (!(most >= least)) return [0, 1];
      const room = (most - least) * 0.05 || Math.abs(most) * 0.05 || 1;
      return [least - room, most + room];
    }

    draw() {
      this.curves = this.visible();
      this.scale = this.chart.logarithmic ? (value) => Math.log10(Math.max(value, 1e-12)) : (value) => value;
      const width = Math.max(this.area.clientWidth, 240), height = width < 480 ? 240 : 300;
      this.right = width - EDGE.right;
      this.bottom = height - EDGE.bottom;
      const ends = this.curves.map((curve) => curve.xs[curve.xs.length - 1]);
      this.whole = [0, Math.max(...ends, 0) || 1];
      this.span = this.range ?? this.whole;
      const [low, high] = this.span, [least, most] = this.heights();
      this.x = (x) => EDGE.left + ((x - low) / (high - low)) * (this.right - EDGE.left);
      this.y = (value) => EDGE.top + ((most - this.scale(value)) / (most - least)) * (this.bottom - EDGE.top);
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.setAttribute("aria-label", this.inWords());
      const clip = make(make(this.svg, "clipPath", { id: `inside${this.number}` }), "rect", {
        x: EDGE.left - 5, y: 0, width: this.right - EDGE.left + 10, height: this.bottom + 5 });
      clip.parentNode.setAttribute("clipPathUnits", "userSpaceOnUse");
      this.drawAxes(low, high, least, most, width, height);
      const inside = make(this.svg, "g", { "clip-path": `url(#inside${this.number})` });
      for (const kind of ["raw", "smooth", "valid"]) {
        for (const curve of this.curves) if (curve.kind === kind) this.drawCurve(inside, curve);
      }
      for (const [name, value] of this.chart.baselines) {
        const at = this.y(value);
        if (at < EDGE.top - 1 || at > this.bottom) continue;
        make(this.svg, "path", { class: "baseline", d: `M${EDGE.left} ${at}H${this.right}` });
        make(this.svg, "text", { class: "halo", x: this.right - 2, y: at - 5, "text-anchor": "end" }, name);
      }
      this.over = make(this.svg, "g", {});
      this.drawCursor(null);
    }

    drawAxes(low, high, least, most, width, height) {
      const logarithmic = this.chart.logarithmic, count = height / 60;
      for (const tick of logarithmic ? powers(least, most, count) : ticks(least, most, count)) {
        const value = logarithmic ? 10 ** tick : tick, at = this.y(value);
        make(this.svg, "path", { class: "grid", d: `M${EDGE.left} ${at}H${this.right}` });
        make(this.svg, "text", { x: EDGE.left - 7, y: at + 4, "text-anchor": "end" }, logarithmic ? amount(Number(value.toPrecision(2))) : number(value));
      }
      const timed = shown.axis === axes.seconds;
      const [size, name] = timed ? unit(high) : [1, ""];
      for (const tick of ticks(low / size, high / size, width / 110)) {
        const at = this.x(tick * size);
        make(this.svg, "path", { class: "grid", d: `M${at} ${this.bottom}v5` });
        make(this.svg, "text", { x: at, y: this.bottom + 18, "text-anchor": "middle" }, timed ? Number(tick.toPrecision(6)) : amount(tick));
      }
      make(this.svg, "path", { class: "grid", d: `M${EDGE.left} ${this.bottom}H${this.right}` });
      make(this.svg, "text", { x: (EDGE.left + this.right) / 2, y: height - 5, "text-anchor": "middle" },
        shown.axis.name + (timed ? ` (${name})` : ""));
    }

    drawCurve(parent, curve) {
      const run = data.runs[curve.run];
      if (curve.kind === "valid" || curve.values.length === 1) {
        curve.xs.forEach((x, n) => make(parent, "circle", {
          class: `valid ${run.colour}`, cx: this.x(x).toFixed(1), cy: this.y(curve.values[n]).toFixed(1), r: 3.5 }));
        return;
      }
      const points = curve.xs.map((x, n) => `${this.x(x).toFixed(1)} ${this.y(curve.values[n]).toFixed(1)}`);
      make(parent, "path", { class: `${curve.kind} ${run.colour}`, d: `M${points.join("L")}` });
    }

    inWords() {
      const runs = new Set(this.curves.map((curve) => curve.run));
      const last = this.curves.filter((curve) => curve.kind !== "valid")
        .map((curve) => `${data.runs[curve.run].label} ends at ${number(curve.values[curve.values.length - 1])}`);
      return `${this.chart.title} along ${shown.axis.name}, ${runs.size} ${runs.size === 1 ? "run" : "runs"}: ${[...new Set(last)].slice(0, MOST_LINES).join(", ")}`;
    }

    // The line under the pointer, what is being chosen, and the values there.
    drawCursor(chosen) {
      this.over.replaceChildren();
      this.readout.replaceChildren();
      if (chosen) {
        const [from, to] = [...chosen].sort((a, b) => a - b);
        make(this.over, "rect", { class: "chosen", x: from, y: EDGE.top, width: to - from, height: this.bottom - EDGE.top });
      }
      if (this.cursor === null || !this.curves.length) return;
      const at = this.x(this.cursor);
      make(this.over, "path", { class: "cursor", d: `M${at} ${EDGE.top}V${this.bottom}` });
      const told = [];
      data.runs.forEach((run, index) => {
        const own = this.curves.filter((curve) => curve.run === index);
        const line = own.find((curve) => curve.kind === "smooth") ?? own.find((curve) => curve.kind === "raw");
        const points = own.find((curve) => curve.kind === "valid");
        const parts = [];
        const read = (value) => value.toLocaleString("en-US", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
        if (line && this.cursor <= line.xs[line.xs.length - 1] * 1.001) {
          const n = closest(line.xs, this.cursor);
          parts.push(`${read(line.values[n])} at update ${Math.round(line.tokens[n] / run.update)}`);
        }
        if (points) {
          const n = closest(points.xs, this.cursor);
          if (Math.abs(this.x(points.xs[n]) - at) < CLOSEST) parts.push(`validation ${read(points.values[n])}`);
        }
        if (parts.length) told.push([run, parts.join(", ")]);
      });
      const line = (label, text, colour) => {
        const row = document.createElement("div"), name = document.createElement("span"), value = document.createElement("span");
        if (colour) {
          const dot = document.createElement("i");
          dot.className = colour;
          name.append(dot);
        }
        name.append(label);
        value.textContent = text;
        row.append(name, value);
        this.readout.append(row);
      };
      line(shown.axis.told(this.cursor), "");
      told.slice(0, MOST_LINES).forEach(([run, text]) => line(run.label, text, run.colour));
      if (told.length > MOST_LINES) line(`and ${told.length - MOST_LINES} more`, "");
      const beside = at > (EDGE.left + this.right) / 2; // to the left of it
      this.readout.style.left = beside ? "auto" : `${at + 12}px`;
      this.readout.style.right = beside ? `${this.right + EDGE.right - at + 12}px` : "auto";
    }
  }

  const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure, Number(figure.dataset.chart)));
  const drawAll = () => charts.forEach((chart) => chart.draw());
  const each = (name, act) => document.querySelectorAll(`input[name=${name}]`).forEach((input) =>
    input.addEventListener("change", () => { act(input); drawAll(); }));
  const put = (set, value, there) => (there ? set.add(value) : set.delete(value));
  each("axis", (input) => {
    shown.axis = axes[input.value];
    charts.forEach((chart) => { chart.range = null; chart.cursor = null; });
  });
  each("kind", (input) => put(shown.kinds, input.value, input.checked));
  each("group", (input) => put(shown.hidden, Number(input.value), !input.checked));
  document.querySelectorAll(".controls, .legend input").forEach((element) => { element.hidden = false; });
  drawAll();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); }
  });
})();
