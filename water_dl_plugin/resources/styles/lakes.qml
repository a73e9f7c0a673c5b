<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<!-- Water DL -->
<qgis styleCategories="Symbology" version="3.22.16-Białowieża">
  <renderer-v2 type="graduatedSymbol" attr="area_m2" graduatedMethod="GraduatedColor" symbollevels="0" forceraster="0" referencescale="-1" enableorderby="0">
    <ranges><!-- ranges --></ranges>
    <symbols><!-- symbols --></symbols>
  </renderer-v2>
  <blendMode>0</blendMode>
  <featureBlendMode>0</featureBlendMode>
  <layerGeometryType>2</layerGeometryType>
</qgis>
