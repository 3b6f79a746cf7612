// The page's script begins here; the functions stand in the other files. Without it the page shows every query, and the
// filters, which need it, stay hidden.
const sources = pictureSources();
setUpCards(sources);
setUpGallery(sources);
setUpTables(sources);
setUpDialog(sources);
setUpMap();
setUpEdges();
