// A box that scrolls sideways can be reached and scrolled with the keyboard
function reachable() {
  for (const box of document.querySelectorAll('.cell_output .text_html, .cell_output .output, .highlight pre, .wide, .pst-scrollable-table-container, .math, dt.sig')) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls && !box.hasAttribute('tabindex')) { box.tabIndex = 0; if (!box.hasAttribute('aria-label')) { box.setAttribute('role', 'region'); box.setAttribute('aria-label', 'scrolls sideways'); } }
  }
}
// The sidebar's arrows have no name of their own
function named() { for (const arrow of document.querySelectorAll('.bd-sidenav details > summary')) arrow.setAttribute('aria-label', 'Pages of ' + arrow.closest('li').querySelector('a').textContent.trim()); }
// Above a table that is wider than its box a line says so
function hinted() {
  for (const box of document.querySelectorAll('.wide')) {
    const hint = box.previousElementSibling?.className === 'scroll-hint' ? box.previousElementSibling : box.parentNode.insertBefore(Object.assign(document.createElement('p'), { className: 'scroll-hint' }), box);
    hint.hidden = box.scrollWidth <= box.clientWidth + 1;
    hint.textContent = 'The table goes on to the right \u2192';
  }
}
addEventListener('DOMContentLoaded', named);
addEventListener('load', reachable);
addEventListener('load', hinted);
addEventListener('resize', hinted);
addEventListener('resize', reachable);
addEventListener('toggle', reachable, true);
