"use strict";
(() => {
  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const drawn = (name, attributes) => {
    const made = document.createElementNS("http:" + "//www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  document.documentElement.classList.add("scripted");
  const spoken = make("div", { "aria-live": "polite", class: "spoken" });
  document.body.append(spoken);

  // light, dark, or as the system has it
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const kept = () => { try { return localStorage.getItem("qnoise-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `theme: ${theme}`;
  };
  let theme = themes.includes(kept()) ? kept() : "system";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("qnoise-theme", theme); } catch { /* a page from disk may not keep anything */ }
    show(theme);
  });

  // headings of tables sort them; what has no number stays last
  const compare = (a, b, number) => {
    if (!number) return a.localeCompare(b, "en", { numeric: true });
    return Number(a) - Number(b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const name = head.textContent;
      if (!name) return;
      const sorter = make("button", { type: "button" }, name);
      head.replaceChildren(sorter);
      head.setAttribute("aria-sort", "none");
      sorter.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const number = head.classList.contains("number");
        const key = (row) => row.cells[column].dataset.value;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
          return (up ? 1 : -1) * compare(key(a), key(b), number);
        });
        table.tBodies[0].append(...rows);
        spoken.textContent = `sorted by ${name}, ${up ? "ascending" : "descending"}`;
      });
    });
  }

  // views of one figure become tabs: arrows, Home and End move among them
  document.querySelectorAll(".views").forEach((views, group) => {
    const panels = [...views.querySelectorAll(":scope > .view")];
    const list = make("div", { role: "tablist", "aria-label": views.dataset.title, class: "tabs" });
    const tabs = panels.map((panel, index) => {
      panel.id = `view-${group}-${index}`;
      panel.setAttribute("role", "tabpanel");
      const tab = make("button", { type: "button", role: "tab", id: `tab-${group}-${index}`, "aria-controls": panel.id },
        panel.dataset.label || String(index + 1));
      panel.setAttribute("aria-labelledby", tab.id);
      return tab;
    });
    const choose = (index, focus) => {
      tabs.forEach((tab, at) => {
        tab.setAttribute("aria-selected", String(at === index));
        tab.tabIndex = at === index ? 0 : -1;
        panels[at].hidden = at !== index;
      });
      if (focus) tabs[index].focus();
    };
    tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => choose(index, false));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        choose((step + tabs.length) % tabs.length, true);
      });
    });
    list.append(...tabs);
    views.prepend(list);
    views.classList.add("tabbed");
    choose(0, false);
  });

  // sites and steps: a bar per site at the step of the slider, and the chosen site over all steps
  const decibels = (value) => (value === null ? "none" : `${value.toFixed(1)} dB`);
  document.querySelectorAll(".explorer").forEach((explorer) => {
    const data = JSON.parse(explorer.querySelector("script").textContent);
    const steps = data.timesteps.length;
    const system = make("select");
    data.systems.forEach((one, index) => system.append(make("option", { value: index }, one.label)));
    const slider = make("input", { type: "range", min: 0, max: steps - 1, value: 0 });
    const told = make("output");
    const bars = make("div", { class: "bars" });
    const course = make("div", { class: "course" });
    let site = 0;
    const rows = data.sites.map((name, index) => {
      const choice = make("button", { type: "button" }, name);
      const bar = make("div", { class: "bar", "aria-hidden": "true" });
      const value = make("span", { class: "value" });
      choice.addEventListener("click", () => { site = index; update(); });
      bars.append(choice, make("div", {}, bar), value);
      return { choice, bar, value };
    });
    const ends = (values) => {
      const finite = values.flat(2).filter((value) => value !== null);
      return finite.length ? [Math.min(0, ...finite), Math.max(1, ...finite)] : [0, 1];
    };
    const every = data.systems.map((one) => one.values);
    const [low, high] = every.reduce(([a, b], values) => {
      const [c, d] = ends(values);
      return [Math.min(a, c), Math.max(b, d)];
    }, [0, 1]);
    const line = (values, step) => {
      const [width, height, left, bottom] = [640, 200, 44, 26];
      const x = (at) => left + (steps > 1 ? (at / (steps - 1)) * (width - left - 12) : 0);
      const y = (value) => 10 + (1 - (value - low) / (high - low)) * (height - bottom - 10);
      const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `SQNR of ${data.sites[site]} over the steps` });
      const text = (content, where) => {
        const made = drawn("text", where);
        made.textContent = content;
        picture.append(made);
      };
      for (const level of [low, (low + high) / 2, high]) {
        picture.append(drawn("line", { class: "axis", x1: left, x2: width - 12, y1: y(level), y2: y(level) }));
        text(level.toFixed(0), { x: left - 6, y: y(level) + 4, "text-anchor": "end" });
      }
      for (const at of new Set([0, Math.floor((steps - 1) / 2), steps - 1])) {
        text(`t = ${data.timesteps[at]}`, { x: x(at), y: height - 8,
          "text-anchor": at === 0 ? "start" : at === steps - 1 ? "end" : "middle" });
      }
      let part = [];
      const flush = () => {
        if (part.length) picture.append(drawn("polyline", { points: part.join(" ") }));
        part = [];
      };
      values.forEach((value, at) => { if (value === null) flush(); else part.push(`${x(at)},${y(value)}`); });
      flush();
      picture.append(drawn("line", { class: "now", x1: x(step), x2: x(step), y1: 10, y2: height - bottom }));
      return picture;
    };
    const update = () => {
      const step = Number(slider.value);
      const values = data.systems[Number(system.value)].values;
      told.textContent = `${step + 1} of ${steps}, t = ${data.timesteps[step]}`;
      slider.setAttribute("aria-valuetext", told.textContent);
      rows.forEach(({ choice, bar, value }, index) => {
        const found = values[step][index];
        choice.setAttribute("aria-pressed", String(index === site));
        bar.style.width = found === null ? "0" : `${(100 * (found - low)) / (high - low)}%`;
        value.textContent = decibels(found);
      });
      course.replaceChildren(
        make("h4", {}, `${data.sites[site]}, over the steps (dB)`), line(values.map((row) => row[site]), step));
    };
    system.addEventListener("change", update);
    slider.addEventListener("input", update);
    explorer.append(
      make("div", { class: "controls" },
        make("label", {}, "system", system), make("label", {}, "step", slider), told),
      bars, course);
    update();
  });
})();
