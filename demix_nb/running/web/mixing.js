// What the desk computes: the nearest mixture within bounds (demix_nb/projection.py, one row of it), and Gaussian
// processes on the roots of shares (demix_nb/predictors/gaussian.py). No page, no names: arrays in, arrays out.

const CLOSE = 1e-14, STEPS = 200, WIDEST = 60, HALVINGS = 60, FLOOR = 1e-9, TOLERANCE = 1e-9;
const BEYOND = 1; // ranges of the scores seen
const TURNS = 50, TRIES = 160, DRAWN = 1e-7; // of a dragged score: steps, mixtures tried, what it may miss by, in sd

const sum = (values) => values.reduce((total, value) => total + value, 0);
const clip = (value, low, high) => Math.min(Math.max(value, low), high);

// --- the nearest mixture: x_i = clip(c·d_g·p_i, low_i, high_i)

/** The factor at which total(factor), [sum, slope], is what is wanted: Newton steps that a bisection guards. */
function factor(total, wanted, top) {
  let left = 1e-300, right = top, found = Math.min(1, top);
  for (let turn = 0; turn < STEPS; turn++) {
    const [value, slope] = total(found), gap = wanted - value;
    if (gap > 0) left = found;
    if (gap < 0) right = found;
    if (Math.abs(gap) <= CLOSE) break;
    const step = found + gap / slope, usual = step > left && step < right && turn % 4 !== 3;
    const moved = usual ? step : Math.sqrt(left) * Math.sqrt(right);
    if (moved <= left || moved >= right) return right; // neighbours in float64
    found = moved;
  }
  return found;
}

/** The groups of bounds, and what is in none: members, least and largest sum. */
function parts(bounds) {
  const grouped = new Set(bounds.groups.flatMap((group) => group.members));
  const rest = bounds.low.map((_, i) => i).filter((i) => !grouped.has(i));
  return [...bounds.groups, {members: rest, least: -Infinity, most: Infinity}];
}

function raised(shares, bounds, by, i, pull) {
  let value = by * shares[i], slope = shares[i];
  if (pull !== null) {
    const centre = bounds.centre[i];
    if (value * pull < centre) [value, slope] = [value * pull, slope * pull];
    else if (value > centre * pull) [value, slope] = [value / pull, slope / pull];
    else [value, slope] = [centre, 0];
  }
  const free = value > bounds.low[i] && value < bounds.high[i];
  return [clip(value, bounds.low[i], bounds.high[i]), free ? slope : 0];
}

function at(shares, bounds, pull) {
  const totalOf = (members, by) => members.reduce(([value, slope], i) => {
    const [more, rise] = raised(shares, bounds, by, i, pull);
    return [value + more, slope + rise];
  }, [0, 0]);
  const least = Math.min(...shares.filter((share) => share > 0)), top = 2 / least * (pull ?? 1);
  const all = parts(bounds);
  const common = factor((by) => all.reduce(([value, slope], part) => {
    const [own, rise] = totalOf(part.members, by), free = own > part.least && own < part.most;
    return [value + clip(own, part.least, part.most), slope + (free ? rise : 0)];
  }, [0, 0]), 1, top);
  const found = shares.map((_, i) => raised(shares, bounds, common, i, pull)[0]);
  for (const {members, least: low, most: high} of bounds.groups) {
    const own = totalOf(members, common)[0], wanted = clip(own, low, high);
    if (own === wanted) continue;
    const by = factor((value) => totalOf(members, value), wanted, top);
    for (const i of members) found[i] = raised(shares, bounds, by, i, pull)[0];
  }
  return found;
}

const distance = (shares, centre) => sum(shares.map((share, i) => Math.abs(share - centre[i]))) / 2;

/** The mixture within bounds that is nearest to positive shares. */
function project(shares, bounds) {
  const found = at(shares, bounds, null);
  if (bounds.centre === null || distance(found, bounds.centre) <= bounds.reach) return found;
  let left = 0, right = WIDEST;
  for (let turn = 0; turn < HALVINGS; turn++) {
    const middle = (left + right) / 2;
    if (distance(at(shares, bounds, Math.exp(middle)), bounds.centre) > bounds.reach) left = middle;
    else right = middle;
  }
  return at(shares, bounds, Math.exp(right));
}

/** By how much the worst bound is broken, the sum 1 among them; 0 or less: none is. */
function far(shares, bounds) {
  const broken = shares.flatMap((share, i) => [bounds.low[i] - share, share - bounds.high[i]]);
  broken.push(Math.abs(sum(shares) - 1));
  for (const {members, least, most} of bounds.groups) {
    const own = sum(members.map((i) => shares[i]));
    broken.push(least - own, own - most);
  }
  if (bounds.centre !== null) broken.push(distance(shares, bounds.centre) - bounds.reach);
  return Math.max(...broken);
}

/** The mixture within bounds that is nearest to weights, which need not sum to 1; nothing falls to 0. */
function nearest(weights, bounds) {
  const total = sum(weights), kept = weights.map((weight) => Math.max(weight / total, FLOOR)), all = sum(kept);
  return project(kept.map((share) => share / all), bounds);
}

/** The mixture as it is where it lies within bounds, else the nearest. */
function settled(shares, bounds) {
  return far(shares, bounds) <= TOLERANCE ? shares : nearest(shares, bounds);
}

/** The bounds with some shares fixed, `pins`: place → share. */
function pinned(bounds, pins) {
  const [low, high] = [[...bounds.low], [...bounds.high]];
  for (const [i, share] of pins) low[i] = high[i] = share;
  return {...bounds, low, high};
}

/** The least and largest share that candidate i can have, distance from a centre aside. */
function room(i, bounds) {
  const ends = parts(bounds).map(({members, least, most}) => {
    const others = members.filter((other) => other !== i), own = members.length > others.length;
    const [low, high] = [sum(others.map((j) => bounds.low[j])), sum(others.map((j) => bounds.high[j]))];
    return {own, low, high, least: Math.max(least, low), most: Math.min(most, high), bottom: least, top: most};
  });
  const mine = ends.find((part) => part.own), rest = ends.filter((part) => !part.own);
  const bottom = Math.max(mine.bottom, 1 - sum(rest.map((part) => part.most)));
  const top = Math.min(mine.top, 1 - sum(rest.map((part) => part.least)));
  return [Math.max(bounds.low[i], bottom - mine.high), Math.min(bounds.high[i], top - mine.low)];
}

/** The mixture after share i was set, as near to what was wanted as bounds allow; `locked`: places that stay. */
function moved(shares, i, wanted, locked, bounds) {
  const held = pinned(bounds, [...locked].filter((j) => j !== i).map((j) => [j, shares[j]]));
  const [least, most] = room(i, held);
  if (!(most - least > 1e-12)) return shares;
  const to = (share) => nearest(shares, pinned(held, [[i, share]]));
  let near = shares[i], goal = clip(wanted, least, most), found = to(goal);
  if (bounds.centre === null || far(found, bounds) <= TOLERANCE) return found;
  for (let turn = 0; turn < 30; turn++) { // a distance has no closed form: halves between what holds and what does not
    const middle = (near + goal) / 2, there = to(middle);
    if (far(there, bounds) <= TOLERANCE) [near, found] = [middle, there];
    else goal = middle;
  }
  return far(found, bounds) <= TOLERANCE ? found : shares;
}

// --- Gaussian processes

/** One task's process, conditioned on what was scored: `shares` row × candidate, `theta` as in gaussian.py. */
class Surface {
  constructor(shares, {theta, scores}) {
    const rows = scores.length, d = shares[0].length;
    this.rows = shares.map((row) => row.map(Math.sqrt));
    this.weights = theta.slice(0, d).map(Math.exp);
    [this.size, this.noise] = [Math.exp(theta[d]), Math.exp(theta[d + 1])];
    this.centre = sum(scores) / rows;
    this.scale = Math.sqrt(sum(scores.map((score) => (score - this.centre) ** 2)) / rows);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    this.ends = [low - BEYOND * (high - low), high + BEYOND * (high - low)];
    this.factor = this.rows.map(() => new Float64Array(rows));
    this.#decompose();
    this.alpha = this.#back(this.#forth(scores.map((score) => (score - this.centre) / this.scale)));
  }

  #decompose() {
    const l = this.factor;
    for (let i = 0; i < l.length; i++) {
      for (let j = 0; j <= i; j++) {
        let value = this.#kernel(this.rows[i], this.rows[j])[0] + (i === j ? this.noise : 0);
        for (let k = 0; k < j; k++) value -= l[i][k] * l[j][k];
        l[i][j] = i === j ? Math.sqrt(value) : value / l[j][j];
      }
    }
  }

  #forth(target) {
    const found = Float64Array.from(target);
    for (let i = 0; i < found.length; i++) {
      for (let k = 0; k < i; k++) found[i] -= this.factor[i][k] * found[k];
      found[i] /= this.factor[i][i];
    }
    return found;
  }

  #back(target) {
    const found = Float64Array.from(target);
    for (let i = found.length - 1; i >= 0; i--) {
      for (let k = i + 1; k < found.length; k++) found[i] -= this.factor[k][i] * found[k];
      found[i] /= this.factor[i][i];
    }
    return found;
  }

  /** k and its slope along Σ w (a − b)², twice. */
  #kernel(a, b) {
    let squares = 0;
    for (let d = 0; d < a.length; d++) squares += this.weights[d] * (a[d] - b[d]) ** 2;
    const r = Math.sqrt(5 * squares), decay = this.size * Math.exp(-r);
    return [(1 + r + r * r / 3) * decay, (-5 / 3) * (1 + r) * decay];
  }

  /** Mean and standard deviation of the score of a new run. */
  predict(shares) {
    const z = shares.map(Math.sqrt), k = this.rows.map((row) => this.#kernel(z, row)[0]), seen = this.#forth(k);
    const left = this.size + this.noise - sum([...seen].map((value) => value * value));
    return [this.mean(shares), this.scale * Math.sqrt(Math.max(left, 1e-12))];
  }

  mean(shares) {
    const z = shares.map(Math.sqrt);
    const value = sum(this.rows.map((row, i) => this.#kernel(z, row)[0] * this.alpha[i]));
    return clip(this.centre + this.scale * value, ...this.ends);
  }

  /** How the mean rises with each share. */
  gradient(shares) {
    const z = shares.map(Math.sqrt), slopes = new Array(z.length).fill(0);
    this.rows.forEach((row, i) => {
      const slope = this.#kernel(z, row)[1] * this.alpha[i] * this.scale;
      for (let d = 0; d < z.length; d++) slopes[d] += slope * this.weights[d] * (z[d] - row[d]);
    });
    return slopes.map((slope, d) => slope / (2 * Math.max(z[d], 1e-3)));
  }
}

/**
 * The mixture nearest to `shares` in KL divergence whose mean on a surface is `wanted`, within bounds.
 *
 * It is nearest(p·exp(λ·∇f(x))): λ so that f(x) is what is wanted, then ∇ anew, halfway from the last, until x stays.
 * Where what is wanted cannot be had, the nearest to it that was met.
 */
function drawn(surface, shares, wanted, locked, bounds) {
  const held = pinned(bounds, [...locked].map((j) => [j, shares[j]])), close = DRAWN * surface.scale;
  if (surface.drawn) return surface.drawn(shares, wanted, held);
  const from = shares.map((share) => Math.max(share, FLOOR)), start = surface.mean(shares) - wanted;
  let best = shares, miss = Math.abs(start), slopes = surface.gradient(shares), here = shares, tries = 0;
  const more = () => tries < TRIES, missed = (there) => (tries++, surface.mean(there) - wanted);
  for (let turn = 0; turn < TURNS && more(); turn++) {
    const [found, gap] = root(tilting(from, slopes, held, missed), slopes, from, start, close, more);
    const apart = Math.max(...found.map((share, i) => Math.abs(share - here[i])));
    if (Math.abs(gap) < Math.max(miss, close)) [best, miss] = [found, Math.abs(gap)];
    if (apart < 1e-6) break;
    here = found;
    const fresh = surface.gradient(found);
    slopes = slopes.map((slope, i) => (slope + fresh[i]) / 2);
  }
  return best;
}

/** λ → nearest(p·exp(λ·slopes)) within bounds, and its gap. */
function tilting(from, slopes, bounds, gap) {
  return (by) => {
    const powers = slopes.map((slope) => by * slope), top = Math.max(...powers);
    const there = nearest(from.map((share, i) => share * Math.exp(powers[i] - top)), bounds);
    return [there, gap(there)];
  };
}

/** What `along(λ)`, [mixture, gap], is where its gap is closed: Illinois steps from a bracket, else the nearest. */
function root(along, slopes, shares, gap, close, more) {
  const middle = sum(slopes.map((slope, i) => slope * shares[i]));
  const spread = sum(slopes.map((slope, i) => shares[i] * (slope - middle) ** 2)) || 1;
  let [left, below, right] = [0, gap, -gap / spread], best = along(right), above = best[1];
  while (above * below > 0 && more()) {
    const next = along(right * 2);
    const stuck = next[1] * above > 0 && Math.abs(next[1]) >= Math.abs(above) * (1 - 1e-6);
    if (stuck) return best; // bounds, or what was seen, let it go no farther
    [left, below, right, above, best] = [right, above, right * 2, next[1], next];
  }
  for (let side = 0; Math.abs(best[1]) > close && above * below < 0 && more();) {
    const place = (left * above - right * below) / (above - below);
    best = along(place);
    if (best[1] * above > 0) {
      [right, above] = [place, best[1]];
      if (side > 0) below /= 2;
      side = 1;
    } else {
      [left, below] = [place, best[1]];
      if (side < 0) above /= 2;
      side = -1;
    }
  }
  return best;
}

/** The place of family scores among those of all proxies by macro rank: 1 + how many are better. */
function place(scores, among, higher) {
  const rows = [...among, scores], macro = new Array(rows.length).fill(0);
  scores.forEach((_, f) => {
    const sign = higher[f] ? -1 : 1, order = rows.map((row) => sign * row[f]);
    order.forEach((value, i) => {
      let [less, same] = [0, 0];
      for (const other of order) [less, same] = [less + (other < value), same + (other === value)];
      macro[i] += less + (same + 1) / 2; // a sum of halves: ties stay ties
    });
  });
  return 1 + macro.slice(0, -1).filter((rank) => rank < macro.at(-1)).length;
}
