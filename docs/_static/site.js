// A box that scrolls sideways can be reached and scrolled with the keyboard
function reachable() {
  for (const box of document.querySelectorAll('.cell_output .text_html, .cell_output .output, .highlight pre, .wide, .pst-scrollable-table-container, .math, dt.sig')) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls && !box.hasAttribute('tabindex')) { box.tabIndex = 0; if (!box.hasAttribute('aria-label')) { box.setAttribute('role', 'region'); box.setAttribute('aria-label', 'scrolls sideways'); } }
  }
}
// The sidebar's arrows have no name of their own
function named() { for (const arrow of document.querySelectorAll('.bd-sidenav details > summary')) arrow.setAttribute('aria-label', 'Pages of ' + arrow.closest('li').querySelector('a').textContent.trim()); }
// Above a table that goes on beyond its box a line says so
function hinted() {
  for (const box of document.querySelectorAll('.wide, .cell_output .text_html')) {
    const table = box.querySelector('table'), known = box.previousElementSibling?.className === 'scroll-hint';
    if (!table) continue;
    table.classList.remove('runs-on');
    const right = box.scrollWidth > box.clientWidth + 1;
    if (right) table.classList.add('runs-on');
    const ways = [right && 'to the right \u2192', box.scrollHeight > box.clientHeight + 1 && 'below \u2193'].filter(Boolean);
    if (!ways.length && !known) continue;
    const hint = known ? box.previousElementSibling : box.parentNode.insertBefore(Object.assign(document.createElement('p'), { className: 'scroll-hint' }), box);
    hint.hidden = !ways.length;
    hint.textContent = `The table goes on ${ways.join(' and ')}`;
  }
}
// A picture shown smaller than it is opens at its own size
function enlarged() {
  for (const img of document.querySelectorAll('.bd-article img')) {
    if (img.closest('a') || !img.src.match(/\.(png|jpe?g|webp|svg)$/) || img.naturalWidth < 1.2*img.clientWidth) continue;
    const link = Object.assign(document.createElement('a'), { href: img.src, className: 'larger', title: 'Open the picture at its own size' });
    img.replaceWith(link);
    link.append(img);
  }
}
addEventListener('DOMContentLoaded', named);
addEventListener('load', hinted);
addEventListener('load', reachable);
addEventListener('load', enlarged);
addEventListener('resize', hinted);
addEventListener('resize', reachable);
addEventListener('toggle', reachable, true);
