// The report's script: charts that can be zoomed and read, a legend of switches, tables that sort. Without it the page
// shows the same curves as fixed drawings. All text enters by textContent: names may be anything.
'use strict';

(() => {
  const SVG = 'http://www.w3.org/2000/svg';
  const HEIGHT = 290, LEFT = 54, RIGHT = 12, TOP = 12, BOTTOM = 38;
  const PLOT_HEIGHT = HEIGHT - TOP - BOTTOM;
  const SMALLEST_DRAG = 8;  // pixels; less is a click
  const KIND_NAMES = {train: 'training', val: 'validation', ema: 'EMA'};

  const section = document.getElementById('curves');
  const state = {axis: 'epoch', zoom: null, error: false, log: false, smooth: 0, hidden: new Set()};
  const charts = [];

  function element(name, attributes, parent, text) {
    const svg = ['svg', 'line', 'text', 'path', 'rect', 'circle'].includes(name);
    const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }

  function key_of(series) {
    return series.run + '/' + series.kind;
  }

  // Round steps that cut [low, high] into about `count` parts.
  function ticks(low, high, count) {
    const rough = (high - low) / count, power = Math.pow(10, Math.floor(Math.log10(rough)));
    const mantissa = rough / power;
    const step = power * (mantissa <= 1 ? 1 : mantissa <= 2 ? 2 : mantissa <= 5 ? 5 : 10);
    const values = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) values.push(i * step);
    return values;
  }

  function log_ticks(low, high) {
    const values = [];
    for (let exponent = Math.floor(low); exponent <= high; ++exponent) {
      for (const digit of [1, 2, 5]) {
        const value = exponent + Math.log10(digit);
        if (value >= low - 1e-9 && value <= high + 1e-9) values.push(value);
      }
    }
    return values.length > 8 ? values.filter((value) => Math.abs(value - Math.round(value)) < 1e-9) : values;
  }

  function label(value) {
    return String(Number(value.toPrecision(6)));
  }

  // An exponential moving average whose start is corrected, as Adam does.
  function smoothed(values, weight) {
    if (weight === 0) return values;
    let mean = 0, correction = 1;
    return values.map((value) => {
      mean = weight * mean + (1 - weight) * value;
      correction *= weight;
      return mean / (1 - correction);
    });
  }

  class LineChart {
    constructor(figure, data) {
      this.data = data;
      this.plot = figure.querySelector('.plot');
      this.caption = figure.querySelector('figcaption');
      this.figure = figure;
      this.plot.replaceChildren();
      this.svg = element('svg', {role: 'img', 'aria-label': data.title}, this.plot);
      this.readout = element('div', {class: 'readout', hidden: ''}, figure);
      this.drag = null;
      this.svg.addEventListener('pointermove', (event) => this.move(event));
      this.svg.addEventListener('pointerdown', (event) => this.press(event));
      this.svg.addEventListener('pointerup', (event) => this.release(event));
      this.svg.addEventListener('pointerleave', () => this.leave());
      this.svg.addEventListener('pointercancel', () => this.leave());
      this.svg.addEventListener('dblclick', () => set_zoom(null));
    }

    is_accuracy() {
      return this.data.id.startsWith('top');
    }

    visible() {
      const turned = this.is_accuracy() && state.error;
      return this.data.series.filter((series) => !state.hidden.has(key_of(series))).map((series) => {
        let y = turned ? series.value.map((value) => 100 - value) : series.value;
        if (series.kind === 'train') y = smoothed(y, state.smooth);
        return {run: series.run, kind: series.kind, x: series[state.axis], y};
      });
    }

    draw() {
      // Drawn in the pixels of the screen, so that text has one size on a phone and on a wall.
      this.width = Math.max(240, Math.round(this.plot.clientWidth));
      this.plot_width = this.width - LEFT - RIGHT;
      this.svg.setAttribute('viewBox', `0 0 ${this.width} ${HEIGHT}`);
      this.lines = this.visible();
      if (this.is_accuracy()) {
        this.caption.firstChild.textContent = this.data.title.replace('accuracy', state.error ? 'error' : 'accuracy') + ' ';
      }
      this.log = state.log && this.lines.every((line) => line.y.every((value) => value > 0));
      this.find_ranges();
      this.svg.replaceChildren();
      this.axes();
      for (const line of this.lines) this.curve(line);
      this.overlay = [];
    }

    find_ranges() {
      let last = 0;
      for (const series of this.data.series) last = Math.max(last, series[state.axis][series[state.axis].length - 1]);
      [this.x0, this.x1] = state.zoom || [0, last || 1];
      let low = Infinity, high = -Infinity;
      for (const line of this.lines) {
        for (let i = 0; i < line.x.length; ++i) {
          if (line.x[i] < this.x0 || line.x[i] > this.x1) continue;
          const value = this.log ? Math.log10(line.y[i]) : line.y[i];
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
      if (low > high) [low, high] = [0, 1];
      const margin = high > low ? 0.04 * (high - low) : 0.5 * Math.max(1e-6, Math.abs(high));
      this.y0 = low >= 0 && !this.log ? Math.max(0, low - margin) : low - margin;
      this.y1 = high + margin;
    }

    px(x) {
      return LEFT + this.plot_width * (x - this.x0) / (this.x1 - this.x0);
    }
    py(y) {
      return TOP + PLOT_HEIGHT * (1 - ((this.log ? Math.log10(y) : y) - this.y0) / (this.y1 - this.y0));
    }

    axes() {
      for (const value of this.log ? log_ticks(this.y0, this.y1) : ticks(this.y0, this.y1, 5)) {
        const shown = this.log ? Math.pow(10, value) : value, y = this.py(shown);
        element('line', {class: 'grid', x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y}, this.svg);
        element('text', {x: LEFT - 8, y, dy: 4, 'text-anchor': 'end'}, this.svg, label(shown));
      }
      for (const value of ticks(this.x0, this.x1, this.plot_width < 400 ? 4 : 6)) {
        element('text', {x: this.px(value), y: HEIGHT - BOTTOM + 18, 'text-anchor': 'middle'}, this.svg, label(value));
      }
      element('text', {x: LEFT + this.plot_width / 2, y: HEIGHT - 4, 'text-anchor': 'middle'}, this.svg, state.axis);
    }

    curve(line) {
      let path = '';
      for (let i = 0; i < line.x.length; ++i) {
        // One point beyond either edge is kept, so that lines reach it.
        if (i + 1 < line.x.length && line.x[i + 1] < this.x0) continue;
        if (i > 0 && line.x[i - 1] > this.x1) break;
        path += (path ? 'L' : 'M') + this.px(line.x[i]).toFixed(1) + ' ' + this.py(line.y[i]).toFixed(1);
      }
      const clip = `inset(0 ${RIGHT}px ${BOTTOM}px ${LEFT}px)`;
      element('path', {class: `line r${line.run % 6} ${line.kind}`, d: path, style: `clip-path: ${clip} view-box`}, this.svg);
    }

    // The position of the pointer on the x axis, in the axis's unit.
    x_at(event) {
      const box = this.svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * this.width / box.width;
      return this.x0 + (this.x1 - this.x0) * Math.min(1, Math.max(0, (x - LEFT) / this.plot_width));
    }

    press(event) {
      if (event.pointerType === 'touch') return;  // a finger scrolls, and reads
      this.drag = {from: this.x_at(event), client: event.clientX};
      this.svg.setPointerCapture(event.pointerId);
    }

    release(event) {
      const drag = this.drag;
      this.drag = null;
      if (drag === null) return;
      const to = this.x_at(event);
      if (Math.abs(event.clientX - drag.client) >= SMALLEST_DRAG) set_zoom([Math.min(drag.from, to), Math.max(drag.from, to)]);
      else this.move(event);
    }

    leave() {
      this.drag = null;
      this.clear();
    }

    clear() {
      for (const old of this.overlay || []) old.remove();
      this.overlay = [];
      this.readout.hidden = true;
    }

    move(event) {
      this.clear();
      const x = this.x_at(event);
      if (this.drag !== null) {
        const left = this.px(Math.min(x, this.drag.from)), width = Math.abs(this.px(x) - this.px(this.drag.from));
        this.overlay.push(element('rect', {class: 'brush', x: left, y: TOP, width, height: PLOT_HEIGHT}, this.svg));
      }
      this.read(x);
    }

    // Every curve's value at its point nearest to x.
    read(x) {
      this.readout.replaceChildren();
      let nearest_x = null;
      for (const line of this.lines) {
        const i = nearest(line.x, x);
        if (line.x[i] < this.x0 || line.x[i] > this.x1) continue;
        if (nearest_x === null || Math.abs(line.x[i] - x) < Math.abs(nearest_x - x)) nearest_x = line.x[i];
        const style = `line r${line.run % 6} ${line.kind}`;
        this.overlay.push(element('circle', {class: style, r: 3.5, cx: this.px(line.x[i]), cy: this.py(line.y[i])}, this.svg));
        const row = element('div', {}, this.readout);
        const sample = element('svg', {viewBox: '0 0 20 8'}, row);
        element('line', {class: style, x1: 1, x2: 19, y1: 4, y2: 4}, sample);
        const name = run_names.length > 1 ? run_names[line.run] + ', ' + KIND_NAMES[line.kind] : KIND_NAMES[line.kind];
        element('span', {}, row, name);
        element('b', {}, row, label(Number(line.y[i].toPrecision(5))) + (this.data.unit === '%' ? '%' : ''));
      }
      if (nearest_x === null) return;
      this.readout.prepend(element('small', {}, null, state.axis + ' ' + label(Number(nearest_x.toPrecision(6)))));
      const at = this.px(nearest_x);
      this.overlay.push(element('line', {class: 'cross', x1: at, x2: at, y1: TOP, y2: TOP + PLOT_HEIGHT}, this.svg));
      const share = at / this.width;
      this.readout.style.left = share < 0.5 ? `calc(${100 * share}% + 12px)` : 'auto';
      this.readout.style.right = share < 0.5 ? 'auto' : `calc(${100 * (1 - share)}% + 12px)`;
      this.readout.hidden = false;
    }
  }

  // The index of the value of a rising list that is nearest to x.
  function nearest(values, x) {
    let low = 0, high = values.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - values[low - 1] < values[low] - x ? low - 1 : low;
  }

  const run_names = Array.from(document.querySelectorAll('#results tbody tr'), (row) => row.cells[0].textContent);
  let reset_button = null;

  function redraw() {
    for (const chart of charts) {
      chart.clear();
      chart.draw();
    }
    if (reset_button) reset_button.disabled = state.zoom === null;
  }

  function set_zoom(range) {
    state.zoom = range;
    redraw();
  }

  function add_choice(parent, text, options, apply) {
    const select = element('select', {}, element('label', {}, parent, text));
    for (const [value, shown] of options) element('option', {value}, select, shown);
    select.addEventListener('change', () => {
      apply(select.value);
      redraw();
    });
  }

  function add_controls() {
    const controls = section.querySelector('.controls');
    add_choice(controls, 'against', [['epoch', 'epochs'], ['step', 'steps']], (value) => {
      state.axis = value;
      state.zoom = null;
    });
    add_choice(controls, 'show', [['accuracy', 'accuracy'], ['error', 'error']], (value) => { state.error = value === 'error'; });
    add_choice(controls, 'scale', [['linear', 'linear'], ['log', 'logarithmic']], (value) => { state.log = value === 'log'; });
    const smooth = element('label', {}, controls, 'smooth training');
    const slider = element('input', {type: 'range', min: 0, max: 0.98, step: 0.02, value: 0, 'aria-label': 'smooth training curves'}, smooth);
    slider.addEventListener('input', () => {
      state.smooth = Number(slider.value);
      redraw();
    });
    reset_button = element('button', {type: 'button', disabled: ''}, controls, 'Reset zoom');
    reset_button.addEventListener('click', () => set_zoom(null));
    element('span', {class: 'hint'}, controls, 'Drag across a chart to zoom.');
    controls.hidden = false;
  }

  function add_switches() {
    for (const key of section.querySelectorAll('.legend .key')) {
      const button = element('button', {class: 'key', type: 'button', 'aria-pressed': 'true'});
      button.append(...key.childNodes);
      const name = key.dataset.run + '/' + key.dataset.kind;
      button.addEventListener('click', () => {
        const shown = state.hidden.delete(name);
        if (!shown) state.hidden.add(name);
        button.setAttribute('aria-pressed', String(shown));
        redraw();
      });
      key.replaceWith(button);
    }
  }

  function start_charts() {
    const data = document.getElementById('chart-data');
    if (!data) return;
    const by_id = new Map(JSON.parse(data.textContent).map((chart) => [chart.id, chart]));
    for (const figure of section.querySelectorAll('.chart')) charts.push(new LineChart(figure, by_id.get(figure.dataset.chart)));
    add_controls();
    add_switches();
    redraw();
    window.addEventListener('resize', redraw);
  }

  function cell_value(row, column) {
    const cell = row.cells[column];
    return 'v' in cell.dataset ? Number(cell.dataset.v) : cell.textContent;
  }

  function sort_by(table, column, ascending) {
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => {
      const x = cell_value(a, column), y = cell_value(b, column);
      const order = typeof x === 'number' ? x - y : x.localeCompare(y);
      return ascending ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }

  function start_tables() {
    for (const table of document.querySelectorAll('.sortable')) {
      const heads = Array.from(table.tHead.rows[0].cells);
      heads.forEach((head, column) => {
        const toggle = () => {
          const ascending = head.getAttribute('aria-sort') !== 'ascending';
          for (const other of heads) other.removeAttribute('aria-sort');
          head.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
          sort_by(table, column, ascending);
        };
        head.classList.add('sorts');
        head.tabIndex = 0;
        head.addEventListener('click', toggle);
        head.addEventListener('keydown', (event) => {
          if (event.key === 'Enter') toggle();
        });
      });
    }
  }

  start_charts();
  start_tables();
  document.documentElement.dataset.script = 'finished';  // for tests: everything above ran
})();
