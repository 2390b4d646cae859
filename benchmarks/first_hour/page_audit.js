/* Faults of the page as it stands: text below WCAG AA against what is painted under it, and what is cut off or wider than
   the window. Returns a list of sentences. The window must be as tall as the page. */
() => {
  const faults = [];
  const parse = (text) => {
    const found = /^color\(srgb ([^)]+)\)$/.exec(text);
    if (found) {
      const [r, g, b, a] = found[1].split(/[\s/]+/).map(Number);
      return [255 * r, 255 * g, 255 * b, a ?? 1];
    }
    const numbers = (text.match(/[\d.]+/g) || []).map(Number);
    return numbers.length < 3 ? [0, 0, 0, 0] : [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[3] * top[at] + (1 - top[3]) * below[at]);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const opacity = (element) => {
    let share = 1;
    for (let at = element; at; at = at.parentElement) share *= parseFloat(getComputedStyle(at).opacity);
    return share;
  };
  const isDrawn = (element) => element instanceof SVGElement && element.tagName !== "svg";
  const paint = (element) => {
    const style = getComputedStyle(element);
    const colour = parse(isDrawn(element) ? style.fill : style.backgroundColor);
    const share = isDrawn(element) ? parseFloat(style.fillOpacity) : 1;
    return [colour[0], colour[1], colour[2], colour[3] * share * opacity(element)];
  };
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ground = (x, y, element) => {
    const inside = x >= 0 && y >= 0 && x < innerWidth && y < innerHeight;
    let stack = inside ? document.elementsFromPoint(x, y) : [];
    const first = stack.indexOf(element);
    if (first < 0) {
      stack = [];
      for (let at = element; at; at = at.parentElement) stack.push(at);
    } else {
      stack = stack.slice(first);
    }
    if (isDrawn(element)) stack = stack.filter((one) => one !== element && one.tagName !== "text");
    let colour = dark ? [18, 18, 18] : [255, 255, 255];
    for (const one of stack.reverse()) colour = over(paint(one), colour);
    return colour;
  };
  const scroller = (element) => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(at).overflowX)) return at;
    }
    return null;
  };
  const isHidden = (element) => {
    const style = getComputedStyle(element);
    if (!element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) return true;
    for (let at = element; at; at = at.parentElement) {
      const clip = getComputedStyle(at).clipPath;
      if (clip && clip.startsWith("inset")) return true;
    }
    return style.visibility === "hidden";
  };
  const words = (text) => JSON.stringify(text.trim().replace(/\s+/g, " ").slice(0, 40));
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`overflow: the page is ${wide} px wide in a window of ${innerWidth}`);

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || /^(SCRIPT|STYLE|title|NOSCRIPT|OPTION)$/.test(element.tagName)) continue;
    if (isHidden(element)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = isDrawn(element) ? element.getBoundingClientRect() : range.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    if (box.right <= 0 || box.bottom <= 0) continue; // a skip link waits there for the keyboard
    texts += 1;
    const style = getComputedStyle(element);
    const below = ground(box.x + box.width / 2, box.y + box.height / 2, element);
    const ink = parse(isDrawn(element) ? style.fill : style.color);
    const seen = over([ink[0], ink[1], ink[2], ink[3] * opacity(element)], below);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight, 10) >= 700);
    const ratio = contrast(seen, below);
    const isDisabled = element.closest(":disabled, [aria-disabled=true]");
    if (!isDisabled && ratio < (isLarge ? 3 : 4.5)) faults.push(`contrast: ${ratio.toFixed(2)} of ${words(node.textContent)}`);
    const inside = scroller(element);
    const bounds = inside ? inside.getBoundingClientRect() : { left: 0, right: innerWidth };
    if (bounds.left < -1 || bounds.right > innerWidth + 1) {
      faults.push(`overflow: what scrolls ${words(node.textContent)} leaves the window`);
    } else if (inside && inside.scrollWidth > inside.clientWidth + 1 && inside.tabIndex < 0) {
      faults.push(`overflow: ${words(node.textContent)} scrolls, and no keyboard reaches it`);
    } else if (!inside && (box.left < -1 || box.right > innerWidth + 1)) {
      faults.push(`overflow: ${words(node.textContent)} leaves the window`);
    }
    const svg = element.closest("svg");
    if (svg && isDrawn(element)) {
      const frame = svg.getBoundingClientRect();
      if (box.left < frame.left - 2 || box.right > frame.right + 2) faults.push(`overflow: ${words(node.textContent)} is cut off in its plot`);
      const scale = frame.width / (svg.viewBox.baseVal?.width || frame.width);
      if (size * scale < 9) faults.push(`size: ${words(node.textContent)} is ${(size * scale).toFixed(1)} px in its plot`);
    }
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      const { overflowX } = getComputedStyle(at);
      if (/hidden|clip/.test(overflowX) && at.clientWidth && at.scrollWidth > at.clientWidth + 1) {
        faults.push(`overflow: ${words(node.textContent)} is cut off`);
        break;
      }
    }
  }
  for (const element of document.querySelectorAll("img, input, button, select, svg, video, canvas")) {
    if (isHidden(element) || scroller(element)) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.left < -1 || box.right > innerWidth + 1)) faults.push(`overflow: <${element.tagName}> leaves the window`);
  }
  if (!texts) faults.push("nothing: the page shows no text");
  return [...new Set(faults)];
}
